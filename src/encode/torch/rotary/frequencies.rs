//! The frequencies of rotary position embeddings, by the rule that a model was trained or extended with.
//!
//! They are computed by libtorch in single precision and in the order of transformers' `modeling_rope_utils.py`: at
//! position 8,000 the last bit of a frequency changes the fourth digit of a vector.

use tch::{Device, Kind, TchError, Tensor};

/// What the frequencies are computed from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeFrequencies {
    /// The width of a head, all of which is rotated; an even number.
    pub head_dim: i64,
    /// The base: pair n has the frequency theta^(-2n / head_dim) before scaling.
    pub theta: f64,
    pub scaling: RopeScaling,
}

/// How frequencies are changed for sequences longer than those of the training; transformers' `rope_type`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    /// Not at all. Also `dynamic`, which changes nothing up to the model's own maximum length.
    None,
    /// All frequencies are divided by the factor (Chen et al. 2023).
    Linear { factor: f64 },
    /// Llama 3.1: long wavelengths are stretched by the factor, short ones are kept, those between are interpolated.
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_max_positions: f64 },
    /// YaRN (Peng et al. 2023): pairs up to `first` are kept, those from `last` on are stretched by the factor, and queries
    /// and keys are multiplied by `attention_factor`.
    Yarn { factor: f64, first: f64, last: f64, attention_factor: f64 },
}

impl RopeFrequencies {
    /// What cosines and sines are multiplied by.
    pub(crate) fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// The frequency of each pair; transformers' `inv_freq`. `[head_dim / 2]`, on the CPU
    pub(crate) fn compute(&self) -> Result<Tensor, TchError> {
        let options = (Kind::Float, Device::Cpu);
        let dim = self.head_dim as f64;
        let powers =
            Tensor::f_pow_scalar(self.theta, &Tensor::f_arange_start_step(0.0, dim, 2.0, options)?.f_div_scalar(dim)?)?;
        let unscaled = powers.f_reciprocal()?;
        match self.scaling {
            RopeScaling::None => Ok(unscaled),
            RopeScaling::Linear { factor } => unscaled.f_div_scalar(factor),
            // `_compute_llama3_parameters`
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let wavelengths = unscaled.f_reciprocal()?.f_mul_scalar(2.0 * std::f64::consts::PI)?;
                let is_long = wavelengths.f_gt(original_max_positions / low_freq_factor)?;
                let is_short = wavelengths.f_lt(original_max_positions / high_freq_factor)?;
                let stretched = unscaled.f_div_scalar(factor)?;
                let smooth = wavelengths
                    .f_reciprocal()?
                    .f_mul_scalar(original_max_positions)?
                    .f_sub_scalar(low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                let rest = smooth.f_neg()?.f_add_scalar(1.0)?;
                let between = rest.f_mul(&unscaled)?.f_div_scalar(factor)?.f_add(&smooth.f_mul(&unscaled)?)?;
                stretched.f_where_self(&is_long, &unscaled.f_where_self(&is_short, &between)?)
            }
            // `_compute_yarn_parameters`
            RopeScaling::Yarn { factor, first, last, .. } => {
                let stretched = powers.f_mul_scalar(factor)?.f_reciprocal()?;
                let ramp =
                    Tensor::f_arange(self.head_dim / 2, options)?.f_sub_scalar(first)?.f_div_scalar(last - first)?;
                let kept = ramp.f_clamp(0.0, 1.0)?.f_neg()?.f_add_scalar(1.0)?;
                let rest = kept.f_neg()?.f_add_scalar(1.0)?;
                stretched.f_mul(&rest)?.f_add(&unscaled.f_mul(&kept)?)
            }
        }
    }
}

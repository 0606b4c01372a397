//! The layers that families are made of, and the buffers that their results go to.
//!
//! Results of the wide layers are tens of megabytes; fresh memory for each costs page faults that take a tenth of the
//! time. A [`Buffer`] is kept from batch to batch instead and only ever grows, up to the largest batch.

use tch::{Device, Kind, TchError, Tensor};

use super::memory;
use super::simd::gelu::add_bias_and_gelu;
use super::weights::Weights;
use crate::encode::LoadError;

/// Room for `[tokens, width]` that is used again for each batch.
pub struct Buffer {
    tensor: Tensor,
    width: i64,
}

impl Buffer {
    pub fn new(width: i64, device: Device) -> Result<Buffer, TchError> {
        Ok(Buffer { tensor: Tensor::f_empty([0, width], (Kind::Float, device))?, width })
    }

    /// The first `tokens` rows, with whatever an earlier use left in them. `[tokens, width]`
    pub fn rows(&mut self, tokens: i64) -> Result<Tensor, TchError> {
        if self.tensor.size()[0] < tokens {
            // Freed before the larger one is made: on a GPU both may not fit.
            let options = (Kind::Float, self.tensor.device());
            self.tensor = Tensor::f_empty([0, self.width], options)?;
            self.tensor = Tensor::f_empty([tokens, self.width], options)?;
        }
        self.tensor.f_narrow(0, 0, tokens)
    }

    /// Empty room of the same width and on the same device.
    pub fn another(&self) -> Result<Buffer, TchError> {
        Buffer::new(self.width, self.tensor.device())
    }
}

/// x Wᵀ + b
pub struct Linear {
    /// A view of the checkpoint's `[out, in]`. `[in, out]`
    weight: Tensor,
    /// `[out]`
    bias: Tensor,
}

impl Linear {
    pub fn load(
        names: impl Fn(&str) -> Vec<String>,
        (width_in, width_out): (i64, i64),
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        Linear::fused(&[names], (width_in, width_out), weights)
    }

    /// Several layers on the same input as one, with their outputs side by side.
    pub fn fused<N: Fn(&str) -> Vec<String>>(
        parts: &[N],
        (width_in, width_out): (i64, i64),
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        let mut matrices = Vec::new();
        let mut biases = Vec::new();
        for names in parts {
            matrices.push(weights.take(&names("weight"), &[width_out, width_in])?);
            biases.push(weights.take(&names("bias"), &[width_out])?);
        }
        let joined = || Ok((Tensor::f_cat(&matrices, 0)?.f_transpose(0, 1)?, Tensor::f_cat(&biases, 0)?));
        let (weight, bias) = joined().map_err(|error| weights.failed(&error))?;
        Ok(Linear { weight, bias })
    }

    /// The same layer, for another thread: the weights are shared.
    pub fn share(&self) -> Linear {
        Linear { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone() }
    }

    /// x Wᵀ into `out`, `[tokens, out]`. The [`bias`](Linear::bias) is left to what comes next, which reads every number
    /// anyhow. Handed to the product, libtorch would first copy it to every row and then read it back.
    pub fn product(&self, x: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
        x.f_mm_out(out, &self.weight).map(drop)
    }

    /// `[out]`
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Adds the result to `sum`, `[tokens, out]`, in place: the residual costs no pass of its own.
    pub fn add_to(&self, x: &Tensor, sum: &mut Tensor) -> Result<(), TchError> {
        drop(sum.f_add_(&self.bias)?);
        sum.f_addmm_(x, &self.weight).map(drop)
    }
}

pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    pub fn load(
        names: impl Fn(&str) -> Vec<String>,
        width: i64,
        eps: f64,
        weights: &mut Weights,
    ) -> Result<LayerNorm, LoadError> {
        // Checkpoints from TensorFlow's time call them gamma and beta.
        let mut part = |new: &str, old: &str| weights.take(&[names(new), names(old)].concat(), &[width]);
        Ok(LayerNorm { weight: part("weight", "gamma")?, bias: part("bias", "beta")?, width, eps })
    }

    /// The same layer, for another thread: the weights are shared.
    pub fn share(&self) -> LayerNorm {
        LayerNorm { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone(), ..*self }
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.eps, false)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    GeluErf,
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl Activation {
    /// By transformers' names; `None` for one that is not known.
    pub fn named(name: &str) -> Option<Activation> {
        Some(match name {
            "gelu" | "gelu_python" => Activation::GeluErf,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            _ => return None,
        })
    }

    /// Adds `bias` to every row of `x` and applies itself, in place.
    pub fn add_bias_and_apply(self, x: &mut Tensor, bias: &Tensor) -> Result<(), TchError> {
        if self == Activation::GeluErf
            && let (Some(x), Some(bias)) = (memory::floats_mut(x), memory::floats(bias))
        {
            add_bias_and_gelu(x, bias);
            return Ok(());
        }
        drop(x.f_add_(bias)?);
        let applied = match self {
            Activation::GeluErf => x.f_gelu_("none"),
            Activation::GeluTanh => x.f_gelu_("tanh"),
            Activation::Relu => x.f_relu_(),
            Activation::Silu => x.f_silu_(),
            Activation::Tanh => x.f_tanh_(),
        };
        applied.map(drop)
    }
}

//! The modules after the transformer with their weights: token vectors in, one vector a sequence out.
//!
//! Weights are read and checked when the model is loaded, before any data moves: names, shapes, finite values, nothing left
//! over. The workers of one device share them.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, TchError, Tensor};

use super::packed::Packed;
use super::pool;
use super::weights::Weights;
use crate::device::Device as DeviceName;
use crate::model::LoadError;
use crate::model::chain::{Dense, DenseActivation, Module};

pub struct Chain {
    /// What each layer's vectors count, those before the first layer included; none where only the last layer's do.
    layer_weights: Option<Vec<f64>>,
    steps: Vec<Step>,
    /// Tokens at a sequence's beginning that the pooling leaves out.
    prompt_tokens: usize,
}

enum Step {
    Dense {
        spec: Dense,
        weight: Tensor,
        bias: Option<Tensor>,
        projection: Option<Tensor>,
    },
    LayerNorm {
        width: i64,
        weight: Tensor,
        bias: Tensor,
    },
    /// What has no weights is done as it is described.
    Plain(Module),
}

/// torch's own, for a LayerNorm that is given none.
const LAYER_NORM_EPS: f64 = 1e-5;

impl Chain {
    pub fn load(modules: &[Module], prompt_tokens: usize, device: DeviceName) -> Result<Chain, LoadError> {
        let (layer_weights, modules) = match modules {
            [Module::WeightedLayers { weights, start, layers }, rest @ ..] => {
                (Some(layer_weights(weights, (*start, *layers), device)?), rest)
            }
            all => (None, all),
        };
        let steps = modules.iter().map(|module| Step::load(module, device)).collect::<Result<_, _>>()?;
        Ok(Chain { layer_weights, steps, prompt_tokens })
    }

    /// The same chain for another worker on the same device: the weights are shared.
    pub fn share(&self) -> Chain {
        Chain {
            layer_weights: self.layer_weights.clone(),
            steps: self.steps.iter().map(Step::share).collect(),
            prompt_tokens: self.prompt_tokens,
        }
    }

    /// What the transformer is to make of its layers; see [`super::layers::Mix`].
    pub fn layer_weights(&self) -> Option<&[f64]> {
        self.layer_weights.as_deref()
    }

    /// `[tokens, hidden]` to `[rows, dim]`, rows in packed order.
    pub fn forward(&self, tokens: Tensor, batch: &Packed) -> Result<Tensor, TchError> {
        let mut vectors = tokens;
        for step in &self.steps {
            vectors = match step {
                Step::Plain(Module::Pooling { modes }) => pool::pool(&vectors, batch, modes, self.prompt_tokens)?,
                other => other.forward(vectors)?,
            };
        }
        Ok(vectors)
    }

    /// The vector of a sequence without tokens: zeros out of the pooling, as sentence-transformers' mean over nothing is,
    /// through what comes after it. `[1, dim]`
    pub fn of_nothing(&self, hidden: usize, device: Device) -> Result<Tensor, TchError> {
        let mut width = hidden as i64;
        let pools = self.steps.iter().any(|step| matches!(step, Step::Plain(Module::Pooling { .. })));
        // Without a pooling, what comes in is a vector a sequence already.
        let mut vectors = if pools { None } else { Some(Tensor::f_zeros([1, width], (Kind::Float, device))?) };
        for step in &self.steps {
            vectors = match (step, vectors) {
                (Step::Plain(Module::Pooling { modes }), _) => {
                    Some(Tensor::f_zeros([1, width * modes.len() as i64], (Kind::Float, device))?)
                }
                (step, Some(vectors)) => Some(step.forward(vectors)?),
                (Step::Dense { spec, .. }, None) => {
                    width = spec.width_out as i64;
                    None
                }
                (_, None) => None,
            };
        }
        vectors.map_or_else(|| Tensor::f_zeros([1, width], (Kind::Float, device)), Ok)
    }
}

/// What each of a model's layers counts, of all 1; the layers before `start` nothing
/// (`sentence_transformer/modules/weighted_layer_pooling.py`).
fn layer_weights(
    paths: &[PathBuf],
    (start, layers): (usize, usize),
    device: DeviceName,
) -> Result<Vec<f64>, LoadError> {
    let mut weights = Weights::open(paths, device)?;
    let own = weights.take(&["layer_weights".to_owned()], &[(layers + 1 - start) as i64])?;
    weights.none_left_under("")?;
    let own = own.f_to_kind(Kind::Double).and_then(Vec::<f64>::try_from);
    let own = own.map_err(|error| weights.failed(&error))?;
    let sum: f64 = own.iter().sum();
    if sum == 0.0 {
        let path = paths.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        return Err(LoadError::model(path, "`layer_weights` have the sum 0, which the weighted mean is divided by"));
    }
    Ok(std::iter::repeat_n(0.0, start).chain(own.into_iter().map(|weight| weight / sum)).collect())
}

impl Step {
    fn load(module: &Module, device: DeviceName) -> Result<Step, LoadError> {
        let named = |name: &str| [name.to_owned()];
        match module {
            Module::Dense(spec) => {
                let mut weights = Weights::open(&spec.weights, device)?;
                let (width_in, width_out) = (spec.width_in as i64, spec.width_out as i64);
                let weight = weights.take(&named("linear.weight"), &[width_out, width_in])?;
                let bias = match spec.bias {
                    true => Some(weights.take(&named("linear.bias"), &[width_out])?),
                    false => None,
                };
                let projection = match spec.residual && width_in != width_out {
                    true => Some(weights.take(&named("residual.weight"), &[width_out, width_in])?),
                    false => None,
                };
                weights.none_left_under("")?;
                Ok(Step::Dense { spec: spec.clone(), weight, bias, projection })
            }
            Module::LayerNorm { weights, width } => {
                let mut weights = Weights::open(weights, device)?;
                let width = *width as i64;
                let weight = weights.take(&named("norm.weight"), &[width])?;
                let bias = weights.take(&named("norm.bias"), &[width])?;
                weights.none_left_under("")?;
                Ok(Step::LayerNorm { width, weight, bias })
            }
            other => Ok(Step::Plain(other.clone())),
        }
    }

    fn share(&self) -> Step {
        let shared = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        match self {
            Step::Dense { spec, weight, bias, projection } => Step::Dense {
                spec: spec.clone(),
                weight: weight.shallow_clone(),
                bias: shared(bias),
                projection: shared(projection),
            },
            Step::LayerNorm { width, weight, bias } => {
                Step::LayerNorm { width: *width, weight: weight.shallow_clone(), bias: bias.shallow_clone() }
            }
            Step::Plain(module) => Step::Plain(module.clone()),
        }
    }

    /// `[n, width]` to `[n, width out]`
    fn forward(&self, x: Tensor) -> Result<Tensor, TchError> {
        match self {
            // base/modules/dense.py: activation(linear(x)), plus x or its projection.
            Step::Dense { spec, weight, bias, projection } => {
                let out = activate(x.f_linear(weight, bias.as_ref())?, spec.activation)?;
                match (spec.residual, projection) {
                    (false, _) => Ok(out),
                    (true, None) => out.f_add(&x),
                    (true, Some(projection)) => out.f_add(&x.f_linear(projection, None::<&Tensor>)?),
                }
            }
            Step::LayerNorm { width, weight, bias } => {
                x.f_layer_norm([*width], Some(weight), Some(bias), LAYER_NORM_EPS, false)
            }
            Step::Plain(Module::Normalize) => normalize(&x),
            Step::Plain(Module::Truncate { dim }) => x.f_narrow(1, 0, *dim as i64),
            // The chain pools by itself, and the transformer weighs its layers; what has weights is not plain.
            Step::Plain(
                Module::WeightedLayers { .. } | Module::Pooling { .. } | Module::Dense(_) | Module::LayerNorm { .. },
            ) => Ok(x),
        }
    }
}

/// x / max(‖x‖, 1e-12), row by row; a row of zeros stays zeros.
fn normalize(vectors: &Tensor) -> Result<Tensor, TchError> {
    let norms = vectors.f_norm_scalaropt_dim(2, 1, true)?.f_clamp_min(1e-12)?;
    vectors.f_div(&norms)
}

/// Each with the parameters that torch's class has where it is given none.
fn activate(x: Tensor, activation: DenseActivation) -> Result<Tensor, TchError> {
    match activation {
        DenseActivation::Identity => Ok(x),
        DenseActivation::Tanh => x.f_tanh(),
        DenseActivation::Relu => x.f_relu(),
        DenseActivation::Gelu => x.f_gelu("none"),
        DenseActivation::Sigmoid => x.f_sigmoid(),
        DenseActivation::Silu => x.f_silu(),
        DenseActivation::Elu => x.f_elu(),
        DenseActivation::Celu => x.f_celu(),
        DenseActivation::Selu => x.f_selu(),
        DenseActivation::Mish => x.f_mish(),
        DenseActivation::Relu6 => x.f_relu6(),
        // Random in training only; otherwise the slope in the middle, of 1/8 and 1/3. Not by `f_rrelu`: tch hands its
        // argument to the wrong parameter.
        DenseActivation::RRelu => x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(11.0 / 48.0)?),
        DenseActivation::LeakyRelu => x.f_leaky_relu(),
        DenseActivation::LogSigmoid => x.f_log_sigmoid(),
        DenseActivation::Softplus => x.f_softplus(),
        DenseActivation::Softsign => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?),
        DenseActivation::Softshrink => x.f_softshrink(),
        DenseActivation::Hardshrink => x.f_hardshrink(),
        DenseActivation::Tanhshrink => x.f_sub(&x.f_tanh()?),
        DenseActivation::Hardtanh => x.f_hardtanh(),
        DenseActivation::Hardsigmoid => x.f_hardsigmoid(),
        DenseActivation::Hardswish => x.f_hardswish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_stay_zeros() {
        let vectors = normalize(&Tensor::from_slice(&[0f32, 0.0, 3.0, 4.0]).view([2, 2])).expect("shapes fit");
        assert_eq!(Vec::<f32>::try_from(vectors.flatten(0, 1)).expect("floats"), [0.0, 0.0, 0.6, 0.8]);
    }
}

//! Runs the modules after the transformer: token vectors in, one vector for each sequence out, or token vectors where no
//! module pools them.
//!
//! The modules' weights are read and checked when the model is loaded, before any data moves: names, shapes, finite values,
//! no unused tensor. The workers of one device share them.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, TchError, Tensor};

use super::packed_batch::PackedBatch;
use super::tensor_names::TensorNames;
use super::token_pooling::pool;
use super::weights::Weights;
use crate::device::Device as DeviceName;
use crate::model::LoadError;
use crate::model::chain::{Dense, DenseActivation, Module};

/// The modules of a model's [chain](crate::model::chain), loaded.
pub(crate) struct LoadedModules {
    /// The weight of the embeddings and of each layer's output in the token vectors; `None` where only the last layer counts.
    layer_weights: Option<Vec<f64>>,
    modules: Vec<LoadedModule>,
    /// Tokens at the beginning of a sequence that the pooling leaves out.
    prompt_tokens: usize,
}

enum LoadedModule {
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
    /// A module without weights.
    Plain(Module),
}

/// The default of torch's `nn.LayerNorm`, which sentence-transformers' module does not change.
const LAYER_NORM_EPS: f64 = 1e-5;

impl LoadedModules {
    /// Reads the weights of the modules to the device. `prompt_tokens` tokens at the beginning of a sequence are not pooled.
    ///
    /// # Errors
    /// If a module's weights cannot be read or are not what its configuration says.
    pub(crate) fn load(
        modules: &[Module],
        prompt_tokens: usize,
        device: DeviceName,
    ) -> Result<LoadedModules, LoadError> {
        let (layer_weights, modules) = match modules {
            [Module::WeightedLayers { weights, start, layers }, rest @ ..] => {
                (Some(layer_weights(weights, *start, *layers, device)?), rest)
            }
            all => (None, all),
        };
        let modules = modules.iter().map(|module| LoadedModule::load(module, device)).collect::<Result<_, _>>()?;
        Ok(LoadedModules { layer_weights, modules, prompt_tokens })
    }

    /// The same modules for another worker on the same device: the weights are shared.
    pub(crate) fn share(&self) -> LoadedModules {
        LoadedModules {
            layer_weights: self.layer_weights.clone(),
            modules: self.modules.iter().map(LoadedModule::share).collect(),
            prompt_tokens: self.prompt_tokens,
        }
    }

    /// The weights for the transformer's [`WeightedLayerSum`](super::layers::layer_sum::WeightedLayerSum).
    pub(crate) fn layer_weights(&self) -> Option<&[f64]> {
        self.layer_weights.as_deref()
    }

    /// `[tokens, hidden]` → `[rows, dim]`, rows in packed order; without a pooling module `[tokens, dim]`.
    pub(crate) fn forward(&self, tokens: Tensor, batch: &PackedBatch) -> Result<Tensor, TchError> {
        let mut vectors = tokens;
        for module in &self.modules {
            vectors = match module {
                LoadedModule::Plain(Module::Pooling { modes }) => pool(&vectors, batch, modes, self.prompt_tokens)?,
                other => other.forward(vectors)?,
            };
        }
        Ok(vectors)
    }

    /// The vector of a sequence without tokens: the pooling returns zeros, as sentence-transformers' mean over no tokens
    /// does, and these go through the modules after it. `[1, dim]`
    pub(crate) fn empty_sequence(&self, hidden: usize, device: Device) -> Result<Tensor, TchError> {
        let mut width = hidden as i64;
        let pools = self.modules.iter().any(|module| matches!(module, LoadedModule::Plain(Module::Pooling { .. })));
        // Without a pooling, the modules take one vector for each sequence already.
        let mut vectors = if pools { None } else { Some(Tensor::f_zeros([1, width], (Kind::Float, device))?) };
        for module in &self.modules {
            vectors = match (module, vectors) {
                (LoadedModule::Plain(Module::Pooling { modes }), _) => {
                    Some(Tensor::f_zeros([1, width * modes.len() as i64], (Kind::Float, device))?)
                }
                (module, Some(vectors)) => Some(module.forward(vectors)?),
                (LoadedModule::Dense { spec, .. }, None) => {
                    width = spec.width_out as i64;
                    None
                }
                (_, None) => None,
            };
        }
        vectors.map_or_else(|| Tensor::f_zeros([1, width], (Kind::Float, device)), Ok)
    }
}

/// The weight of the embeddings and of each of a model's layers; their sum is 1, and those before `start` are 0
/// (`sentence_transformer/modules/weighted_layer_pooling.py`).
fn layer_weights(paths: &[PathBuf], start: usize, layers: usize, device: DeviceName) -> Result<Vec<f64>, LoadError> {
    let mut weights = Weights::open(paths, device)?;
    let tensor = weights.take(&TensorNames::root(&[]).at("layer_weights"), &[(layers + 1 - start) as i64])?;
    weights.ensure_all_used("")?;
    let values = tensor.f_to_kind(Kind::Double).and_then(Vec::<f64>::try_from);
    let values = values.map_err(|error| weights.load_error(&error))?;
    let sum: f64 = values.iter().sum();
    if sum == 0.0 {
        let path = paths.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        let message =
            "tensor \"layer_weights\": the sum is 0; expected another sum, since the weighted mean is divided by it";
        return Err(LoadError::model(path, message));
    }
    Ok(std::iter::repeat_n(0.0, start).chain(values.into_iter().map(|weight| weight / sum)).collect())
}

impl LoadedModule {
    fn load(module: &Module, device: DeviceName) -> Result<LoadedModule, LoadError> {
        let named = |name: &str| TensorNames::root(&[]).at(name);
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
                weights.ensure_all_used("")?;
                Ok(LoadedModule::Dense { spec: spec.clone(), weight, bias, projection })
            }
            Module::LayerNorm { weights, width } => {
                let mut weights = Weights::open(weights, device)?;
                let width = *width as i64;
                let weight = weights.take(&named("norm.weight"), &[width])?;
                let bias = weights.take(&named("norm.bias"), &[width])?;
                weights.ensure_all_used("")?;
                Ok(LoadedModule::LayerNorm { width, weight, bias })
            }
            other => Ok(LoadedModule::Plain(other.clone())),
        }
    }

    fn share(&self) -> LoadedModule {
        let shared = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        match self {
            LoadedModule::Dense { spec, weight, bias, projection } => LoadedModule::Dense {
                spec: spec.clone(),
                weight: weight.shallow_clone(),
                bias: shared(bias),
                projection: shared(projection),
            },
            LoadedModule::LayerNorm { width, weight, bias } => {
                LoadedModule::LayerNorm { width: *width, weight: weight.shallow_clone(), bias: bias.shallow_clone() }
            }
            LoadedModule::Plain(module) => LoadedModule::Plain(module.clone()),
        }
    }

    /// `[n, width_in]` → `[n, width_out]`
    fn forward(&self, x: Tensor) -> Result<Tensor, TchError> {
        match self {
            // `base/modules/dense.py`: activation(linear(x)), plus x or its projection.
            LoadedModule::Dense { spec, weight, bias, projection } => {
                let out = activate(x.f_linear(weight, bias.as_ref())?, spec.activation)?;
                match (spec.residual, projection) {
                    (false, _) => Ok(out),
                    (true, None) => out.f_add(&x),
                    (true, Some(projection)) => out.f_add(&x.f_linear(projection, None::<&Tensor>)?),
                }
            }
            LoadedModule::LayerNorm { width, weight, bias } => {
                x.f_layer_norm([*width], Some(weight), Some(bias), LAYER_NORM_EPS, false)
            }
            LoadedModule::Plain(Module::Normalize) => normalize(&x),
            LoadedModule::Plain(Module::Truncate { dim }) => x.f_narrow(1, 0, *dim as i64),
            // `LoadedModules` pools, the transformer sums up its layers, and a module with weights is not plain.
            LoadedModule::Plain(
                Module::WeightedLayers { .. } | Module::Pooling { .. } | Module::Dense(_) | Module::LayerNorm { .. },
            ) => Ok(x),
        }
    }
}

/// x / max(‖x‖₂, 1e-12), row by row, as torch's `functional.normalize`; a row of zeros stays zeros. `[n, dim]`
fn normalize(vectors: &Tensor) -> Result<Tensor, TchError> {
    let norms = vectors.f_norm_scalaropt_dim(2, 1, true)?.f_clamp_min(1e-12)?;
    vectors.f_div(&norms)
}

/// Each activation with the default parameters of torch's class. `[n, width]`
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
        // Random in training only; otherwise the slope is the mean of 1/8 and 1/3. `f_rrelu` is not used: tch hands its
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

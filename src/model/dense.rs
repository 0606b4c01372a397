//! The configuration of a Dense module: what it computes, and its activation.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config_file::ConfigFile;
use super::{LoadError, files};
use crate::enum_names::enum_names;

/// Maximum width of a module's vectors. It keeps a hostile number from becoming an allocation.
pub(crate) const WIDTH_MAX: usize = 65_536;

/// A Dense module: `activation(x Wᵀ + b)`. If it is residual, x is added, or a projection of x where the widths differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dense {
    /// The files of its weights.
    pub weights: Vec<PathBuf>,
    /// Length of its input vectors.
    pub width_in: usize,
    /// Length of its output vectors.
    pub width_out: usize,
    /// Whether it adds a bias.
    pub bias: bool,
    /// The activation.
    pub activation: DenseActivation,
    /// Whether it adds its input, or a projection of it.
    pub residual: bool,
}

impl Dense {
    /// Reads the module's configuration, and finds its weights in its folder.
    ///
    /// # Errors
    /// If a value is missing, broken or not supported, or the folder has no weights.
    pub fn read(file: &ConfigFile, folder: &Path) -> Result<Dense, LoadError> {
        Ok(Dense {
            width_in: file.required_count("in_features", 1..=WIDTH_MAX)?,
            width_out: file.required_count("out_features", 1..=WIDTH_MAX)?,
            bias: file.get("bias").is_none() || file.flag("bias")?,
            activation: activation(file)?,
            residual: file.flag("use_residual")?,
            weights: files::weights(folder)?,
        })
    }
}

/// The supported activations: torch's elementwise activations without weights, by the names of their classes in `torch.nn`.
#[allow(missing_docs, reason = "each is the class of that name in `torch.nn`")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
    Silu,
    Elu,
    Celu,
    Selu,
    Mish,
    Relu6,
    RRelu,
    LeakyRelu,
    LogSigmoid,
    Softplus,
    Softsign,
    Softshrink,
    Hardshrink,
    Tanhshrink,
    Hardtanh,
    Hardsigmoid,
    Hardswish,
}

enum_names!(
    DenseActivation,
    "activation",
    Identity = "Identity",
    Tanh = "Tanh",
    Relu = "ReLU",
    Gelu = "GELU",
    Sigmoid = "Sigmoid",
    Silu = "SiLU",
    Elu = "ELU",
    Celu = "CELU",
    Selu = "SELU",
    Mish = "Mish",
    Relu6 = "ReLU6",
    RRelu = "RReLU",
    LeakyRelu = "LeakyReLU",
    LogSigmoid = "LogSigmoid",
    Softplus = "Softplus",
    Softsign = "Softsign",
    Softshrink = "Softshrink",
    Hardshrink = "Hardshrink",
    Tanhshrink = "Tanhshrink",
    Hardtanh = "Hardtanh",
    Hardsigmoid = "Hardsigmoid",
    Hardswish = "Hardswish"
);

/// `activation_function`, the path of a class in torch; Tanh if it is absent.
fn activation(file: &ConfigFile) -> Result<DenseActivation, LoadError> {
    if file.json.get("activation_function").is_some_and(Value::is_null) {
        let expected = "the path of a class, such as \"torch.nn.Identity\"";
        return Err(file.unexpected("activation_function", &Value::Null, expected));
    }
    let Some(path) = file.text("activation_function")? else { return Ok(DenseActivation::Tanh) };
    // Without trust_remote_code, sentence-transformers replaces a class outside torch by Tanh, which would give wrong vectors.
    let class = path.strip_prefix("torch.nn.").and_then(|rest| rest.rsplit('.').next()).unwrap_or(path);
    class.parse().map_err(|error| file.error(format!("\"activation_function\": found {path:?}: {error}")))
}

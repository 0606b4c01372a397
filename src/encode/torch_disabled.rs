//! The replacement for [`torch`](crate::encode::torch) in a build without libtorch: it has no GPU, loads no model, and says
//! why.

use std::sync::Arc;

use super::Encoder;
use crate::device::Device;
use crate::model::LoadError;
use crate::model::Sizes;
use crate::model::config_file::ConfigFile;
use crate::model::script::{Script, ScriptOutput};
use crate::model::spec::ModelSpec;

/// Reads the sizes by the keys that most families have. It accepts every family: only a build with libtorch knows what a family
/// does not support.
///
/// # Errors
/// If a size is missing or out of range.
pub(crate) fn check(_model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let count = |keys: [&str; 3], max: usize| {
        let key = keys.into_iter().find(|key| file.get(key).is_some()).unwrap_or(keys[0]);
        file.required_count(key, 1..=max)
    };
    Ok(Sizes {
        hidden: count(["hidden_size", "dim", "d_model"], COUNT_MAX)?,
        layers: count(["num_hidden_layers", "n_layers", "num_layers"], LAYERS_MAX)?,
        vocab_size: count(["vocab_size"; 3], COUNT_MAX)?,
        positions: file.count("max_position_embeddings", 1..=COUNT_MAX)?,
    })
}

/// The model families of this build: none.
pub fn families() -> Vec<&'static str> {
    Vec::new()
}

/// Upper bound of a model's number of layers; no known model reaches it.
const LAYERS_MAX: usize = 1_024;
/// Upper bound of every other size of a model; no known model reaches it.
const COUNT_MAX: usize = 10_000_000;

/// The number of GPUs: none.
pub(crate) fn cuda_devices() -> usize {
    0
}

/// The reason for [`DeviceError::Unavailable`](crate::device::DeviceError::Unavailable).
pub(crate) fn why_no_cuda() -> &'static str {
    "; this embedmill was built without libtorch (feature `torch`)"
}

/// Refuses every script.
///
/// # Errors
/// Always.
pub(crate) fn probe_script(_script: &Script) -> Result<ScriptOutput, LoadError> {
    Err(LoadError::Load { device: Device::Cpu, message: NO_LIBTORCH.into() })
}

const NO_LIBTORCH: &str = "this embedmill was built without libtorch (build it with the feature `torch`, or set model.backend \
                           to hash to try everything else)";

/// Weights that workers share: none.
#[derive(Default)]
pub(crate) struct SharedModel {}

/// Refuses every model.
///
/// # Errors
/// Always.
pub(crate) fn load(
    _spec: &Arc<ModelSpec>,
    device: Device,
    _threads: usize,
    _shared: &SharedModel,
) -> Result<Box<dyn Encoder>, LoadError> {
    Err(LoadError::Load { device, message: NO_LIBTORCH.into() })
}

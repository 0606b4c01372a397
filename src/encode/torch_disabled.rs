//! The stand-in for [`torch`](crate::encode::torch) in a build without libtorch: no GPU is there, no model loads, and it says why.

use std::sync::Arc;

use super::Encoder;
use crate::device::Device;
use crate::model::LoadError;
use crate::model::Sizes;
use crate::model::config_file::ConfigFile;
use crate::model::script::{Script, ScriptOutput};
use crate::model::spec::ModelSpec;

/// Sizes by the keys that most families have. Refuses nothing else: what a family cannot honour is found by the build that
/// has families.
pub fn check(_model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let count = |keys: [&str; 3], most: usize| {
        let key = keys.into_iter().find(|key| file.get(key).is_some()).unwrap_or(keys[0]);
        file.needed_count(key, 1..=most)
    };
    Ok(Sizes {
        hidden: count(["hidden_size", "dim", "d_model"], COUNT_MAX)?,
        layers: count(["num_hidden_layers", "n_layers", "num_layers"], LAYERS_MAX)?,
        vocab_size: count(["vocab_size"; 3], COUNT_MAX)?,
        positions: file.count("max_position_embeddings", 1..=COUNT_MAX)?,
    })
}

/// There are none.
pub fn families() -> Vec<&'static str> {
    Vec::new()
}

/// More layers than any model has.
const LAYERS_MAX: usize = 1_024;
/// More than any size of a model.
const COUNT_MAX: usize = 10_000_000;

pub fn cuda_devices() -> usize {
    0
}

/// What [`DeviceError::NotThere`](crate::device::DeviceError::NotThere) adds.
pub fn why_no_cuda() -> &'static str {
    "; this embedmill was built without libtorch (feature `torch`)"
}

pub fn try_script(_script: &Script) -> Result<ScriptOutput, LoadError> {
    Err(LoadError::Load { device: Device::Cpu, message: WITHOUT.into() })
}

const WITHOUT: &str = "this embedmill was built without libtorch; build it with the feature `torch`, or set model.backend to \
                       hash to try everything else";

/// Nothing is ever loaded.
#[derive(Default)]
pub struct SharedModel {}

pub fn load(
    _spec: &Arc<ModelSpec>,
    device: Device,
    _threads: usize,
    _loaded: &SharedModel,
) -> Result<Box<dyn Encoder>, LoadError> {
    Err(LoadError::Load { device, message: WITHOUT.into() })
}

//! The stand-in for [`torch`](super::torch) in a build without libtorch: no GPU is there, no model loads, and it says why.

use std::sync::Arc;

use super::device::Device;
use super::folder::ConfigFile;
use super::modules::ModelSpec;
use super::{Encoder, LoadError};

/// Refuses nothing: what a family cannot honour is found by the build that has families.
pub fn check(_model_type: &str, _file: &ConfigFile) -> Result<(), LoadError> {
    Ok(())
}

/// There are none.
pub fn families() -> Vec<&'static str> {
    Vec::new()
}

pub fn cuda_devices() -> usize {
    0
}

/// What [`DeviceError::NotThere`](super::device::DeviceError::NotThere) adds.
pub fn why_no_cuda() -> &'static str {
    "; this embedmill was built without libtorch (feature `torch`)"
}

/// Nothing is ever loaded.
#[derive(Default)]
pub struct Loaded {}

pub fn load(
    _spec: &Arc<ModelSpec>,
    device: Device,
    _threads: usize,
    _loaded: &Loaded,
) -> Result<Box<dyn Encoder>, LoadError> {
    let message = "this embedmill was built without libtorch; build it with the feature `torch`, or set model.backend \
                   to hash to try everything else";
    Err(LoadError::Load { device, message: message.into() })
}

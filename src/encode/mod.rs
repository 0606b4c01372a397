//! Token sequences in, vectors out. An [`Encoder`] is a loaded model on one device.
//!
//! - [`devices`] finds the devices that this process can use
//! - [`worker`] runs one encoder per device, each on its own thread, all fed from one queue
//! - [`hash`] encodes without libtorch, deterministically; tests of everything but the model use it
//! - [`torch`] encodes with libtorch (feature `torch`), and `torch_disabled` replaces it in a build without
//!
//! The rest of the program gets from the `model:` section to running workers by [`spec`] and [`factory`].

pub(crate) mod devices;
mod encoder;
pub(crate) mod hash;
#[cfg(feature = "torch")]
pub(crate) mod torch;
#[cfg(not(feature = "torch"))]
pub(crate) mod torch_disabled;
pub(crate) mod worker;

use std::sync::Arc;

#[cfg(not(feature = "torch"))]
pub(crate) use torch_disabled as torch;

pub use encoder::{EncodeError, Encoder};

use crate::device::Device;
use crate::model::config_file::ConfigFile;
use crate::model::hub::{DownloadProgress, HubSettings};
use crate::model::script::{Script, ScriptOutput};
use crate::model::{self, Backend, LoadError, ModelConfig, ModelRuntime, ModelSpec, Sizes};
use worker::EncoderFactory;

/// The model families and scripts that this build runs, for [`model::find`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Libtorch;

impl ModelRuntime for Libtorch {
    fn check(&self, model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
        torch::check(model_type, file)
    }

    fn probe_script(&self, script: &Script) -> Result<ScriptOutput, LoadError> {
        torch::probe_script(script)
    }
}

/// Finds and reads the model with the families of this build: see `model::find`.
///
/// # Errors
/// Those of `model::find`.
pub fn spec(config: &ModelConfig, hub: &HubSettings, progress: &dyn DownloadProgress) -> Result<ModelSpec, LoadError> {
    model::find(config, hub, progress, &Libtorch)
}

/// Finds and reads the model for queries with the families of this build: see `model::find_for_queries`.
///
/// # Errors
/// Those of `model::find_for_queries`.
pub fn query_spec(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn DownloadProgress,
) -> Result<ModelSpec, LoadError> {
    model::find_for_queries(config, hub, progress, &Libtorch)
}

/// The factory that builds each worker's encoder. `devices` lists the devices of all workers, because the CPU workers among
/// them divide the cores.
pub fn factory(spec: &Arc<ModelSpec>, devices: &[Device]) -> EncoderFactory {
    let spec = spec.clone();
    let cpu_workers = devices.iter().filter(|device| **device == Device::Cpu).count();
    let threads = spec.threads.unwrap_or_else(|| devices::threads_per_worker(cpu_workers));
    match spec.backend {
        Backend::Hash => Arc::new(move |_| Ok(Box::new(hash::HashEncoder::new(spec.dim).with_value(spec.value)))),
        Backend::Torch => {
            let shared = torch::SharedModel::default();
            Arc::new(move |device| torch::load(&spec, *device, threads, &shared))
        }
    }
}

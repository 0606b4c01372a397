//! Token sequences in, vectors out. The [`Encoder`] is the only trait that knows a model that is loaded.
//!
//! - [`devices`] says which devices there are
//! - [`worker`] runs one encoder a device, each on a thread of its own, all fed from one queue
//! - [`hash`] encodes without libtorch, deterministically; everything but the model is tested with it
//! - [`torch`] encodes with libtorch (feature `torch`)
//!
//! [`spec`] and [`factory`] are how the rest of the program gets from the `model:` section to running workers.

pub mod devices;
pub mod hash;
#[cfg(feature = "torch")]
pub mod torch;
#[cfg(not(feature = "torch"))]
pub mod torch_disabled;
pub mod worker;

use std::sync::Arc;

#[cfg(not(feature = "torch"))]
pub use torch_disabled as torch;

use crate::batch::TokenBatch;
use crate::device::Device;
use crate::failure::Failure;
use crate::matrix::Matrix;
use crate::model::config_file::ConfigFile;
use crate::model::hub::{HubSettings, Progress};
use crate::model::script::{Script, ScriptOutput};
use crate::model::{self, Backend, LoadError, ModelConfig, ModelRuntime, ModelSpec, Sizes};
use worker::EncoderFactory;

/// The families of models that this build runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Libtorch;

impl ModelRuntime for Libtorch {
    fn check(&self, model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
        torch::check(model_type, file)
    }

    fn try_script(&self, script: &Script) -> Result<ScriptOutput, LoadError> {
        torch::try_script(script)
    }
}

/// [`model::find`] with the families of this build.
///
/// # Errors
/// As there.
pub fn spec(config: &ModelConfig, hub: &HubSettings, progress: &dyn Progress) -> Result<ModelSpec, LoadError> {
    model::find(config, hub, progress, &Libtorch)
}

/// [`model::find_for_queries`] with the families of this build.
///
/// # Errors
/// As there.
pub fn query_spec(config: &ModelConfig, hub: &HubSettings, progress: &dyn Progress) -> Result<ModelSpec, LoadError> {
    model::find_for_queries(config, hub, progress, &Libtorch)
}

/// How a worker gets its encoder. `devices` are all that will be started: workers on the CPU share its cores.
pub fn factory(spec: &Arc<ModelSpec>, devices: &[Device]) -> EncoderFactory {
    let spec = spec.clone();
    let cpu_workers = devices.iter().filter(|device| **device == Device::Cpu).count();
    let threads = spec.threads.unwrap_or_else(|| devices::threads_per_worker(cpu_workers));
    match spec.backend {
        Backend::Hash => Arc::new(move |_| Ok(Box::new(hash::HashEncoder::new(spec.dim).giving(spec.value)))),
        Backend::Torch => {
            let loaded = torch::SharedModel::default();
            Arc::new(move |device| torch::load(&spec, *device, threads, &loaded))
        }
    }
}

/// A model on a device. It lives and dies on its worker's thread.
pub trait Encoder {
    /// Length of the vectors that [`encode`](Encoder::encode) returns.
    fn dim(&self) -> usize;

    /// One vector a sequence of the batch, in the batch's order; of a model that gives token vectors, the vectors of each
    /// sequence's tokens, sequence after sequence. A row depends on its own tokens alone, to within
    /// the rounding of fp32, whatever its neighbours are.
    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError>;
}

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the device ran out of memory for a batch of {rows} sequences and {tokens} tokens: {message}")]
    OutOfMemory { rows: usize, tokens: usize, message: String },
    #[error("the model failed on a batch of {rows} sequences and {tokens} tokens: {message}")]
    Failed { rows: usize, tokens: usize, message: String },
    #[error("the encoder's thread is gone; its panic is above")]
    WorkerGone,
}

impl EncodeError {
    pub fn failure(&self) -> Failure {
        match self {
            EncodeError::OutOfMemory { .. } => Failure::Retry,
            EncodeError::Failed { .. } | EncodeError::WorkerGone => Failure::Fatal,
        }
    }
}

//! Token sequences in, vectors out. The [`Encoder`] is the only trait that knows a model.
//!
//! - [`hub`] finds the model's folder: a path, the cache, or a download by model id
//! - [`modules`] reads that folder, checked, as a [`modules::ModelSpec`]: with [`router`] the files of sentence-transformers'
//!   module chain, with [`chain`] what they mean together, with [`prompts`] what is put before texts
//! - [`script`] is a TorchScript file in place of the transformer, which only the user can name
//! - [`device`] names devices and says which there are
//! - [`worker`] runs one encoder a device, each on a thread of its own, all fed from one queue
//! - [`hash`] encodes without libtorch, deterministically; everything but the model is tested with it
//! - [`torch`] encodes with libtorch (feature `torch`)
//!
//! [`config`] is the `model:` section; [`spec`] and [`builder`] are how the rest of the program gets from it to running workers.

pub mod chain;
pub mod config;
pub mod device;
pub mod folder;
pub mod hash;
pub mod hub;
pub mod modules;
pub mod pooling;
pub mod prompts;
pub mod router;
pub mod script;
#[cfg(feature = "torch")]
pub mod torch;
#[cfg(not(feature = "torch"))]
#[path = "without_torch.rs"]
pub mod torch;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::TokenBatch;
use crate::failure::Failure;
pub(crate) use config::names;
pub use config::{Backend, DenseChoice, ModelConfig, OutputValue, Precision};
use device::Device;
use modules::ModelSpec;
pub use pooling::{Pooling, PoolingMode};

/// Finds the model and reads what there is to know about it before weights are loaded. It may download, and it reads the
/// weights once to hash them: it blocks, so callers keep it off the runtime's threads.
pub fn spec(
    config: &ModelConfig,
    hub: &hub::HubSettings,
    progress: &dyn hub::Progress,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    let Some(id) = &config.id else { return Ok(ModelSpec::words(config)) };
    let folder = hub::resolve(id, &config.revision, hub, progress)?;
    read(&folder, config)
}

/// The same model for queries, as sentence-transformers' `encode_query` has it: with the prompt named `query`, where the
/// configuration gives no prompt of its own, and on the Router's way for queries, where it has one.
pub fn query_spec(
    config: &ModelConfig,
    hub: &hub::HubSettings,
    progress: &dyn hub::Progress,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    let Some(id) = &config.id else { return Ok(ModelSpec::words(config)) };
    let folder = hub::resolve(id, &config.revision, hub, progress)?;
    let mut config = config.clone();
    if config.prompt.is_none() && config.prompt_name.is_none() {
        config.prompt = Some(prompts::SentenceTransformers::read(&folder.path)?.query().to_owned());
    }
    if router::has_route(&folder.path, "query")? {
        config.route = Some("query".into());
    }
    read(&folder, &config)
}

fn read(folder: &hub::ModelFolder, config: &ModelConfig) -> Result<ModelSpec, LoadError> {
    let mut spec = ModelSpec::read(folder, config)?;
    if !spec.include_prompt && !spec.prompt.is_empty() && spec.backend == Backend::Torch {
        spec.prompt_tokens = crate::tokenize::Tokenizer::load(&spec)?.prompt_tokens()?;
    }
    Ok(spec)
}

/// How a worker gets its encoder. `devices` are all that will be started: workers on the CPU share its cores.
pub fn builder(spec: &Arc<ModelSpec>, devices: &[Device]) -> worker::Builder {
    let spec = spec.clone();
    let cpu_workers = devices.iter().filter(|device| **device == Device::Cpu).count();
    let threads = spec.threads.unwrap_or_else(|| device::threads_per_worker(cpu_workers));
    match spec.backend {
        Backend::Hash => Arc::new(move |_| Ok(Box::new(hash::HashEncoder::new(spec.dim).giving(spec.value)))),
        Backend::Torch => {
            let loaded = torch::Loaded::default();
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

/// Rows × dim of f32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// # Panics
    /// If `values` is not a whole number of rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "{} values are no rows of {dim}", values.len());
        Matrix { dim, values }
    }

    pub fn zeros(rows: usize, dim: usize) -> Self {
        Matrix::new(dim, vec![0.0; rows * dim])
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.dim..][..self.dim]
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
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

/// Why a model cannot be loaded. Each is found before any data moves.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A value of the pipeline file that no model can satisfy, or not this one.
    #[error("{key} {message}")]
    Config { key: &'static str, message: String },
    #[error(transparent)]
    Hub(#[from] hub::HubError),
    /// A file of the model folder: its key, what was expected and what was found.
    #[error("{}: {message}", path.display())]
    Model { path: PathBuf, message: String },
    #[error(transparent)]
    Device(#[from] device::DeviceError),
    #[error("loading the model on {device} failed: {message}")]
    Load { device: Device, message: String },
}

impl LoadError {
    pub(crate) fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        LoadError::Model { path: path.as_ref().to_owned(), message: message.into() }
    }

    pub fn failure(&self) -> Failure {
        match self {
            LoadError::Hub(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

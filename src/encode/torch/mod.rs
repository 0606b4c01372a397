//! The encoder on libtorch: token ids in, one vector a sequence out. This folder is the only place that names `tch`.
//!
//! - [`weights`] reads and checks safetensors, [`names`] are the names a tensor may have, [`keys`] those of config.json
//! - [`packed`] lays a batch out flat, in groups of equal length, so that nothing is ever padded
//! - [`attention`] is handed to the families, with [`rotary`] places or a [`relative`] bias; [`disentangled`] is another
//! - [`layers`] make up a [`block`], [`embeddings`] and blocks an [`encoder`]; [`FAMILIES`] lists what is made of them
//! - [`simd`] are loops of our own where libtorch's cost more than the arithmetic; [`memory`] lends them tensors' memory
//! - [`script`] is a TorchScript file in place of all these
//! - [`chain`] are the modules after the transformer, with [`pool`], which turns token vectors into one vector a sequence
//! - [`device`] is about threads, GPUs and what libtorch's errors mean
//!
//! Only the finished `[rows, dim]` comes back from the device. Every call of libtorch is one of the `f_` kind, whose C++
//! exceptions come back as errors. Gradients are off for the worker's thread.

mod albert;
mod attention;
mod bert;
mod block;
mod chain;
mod deberta;
mod decoder;
mod device;
mod disentangled;
mod distilbert;
mod embeddings;
mod encoder;
mod gemma;
mod heads;
mod keys;
mod layers;
mod memory;
mod modernbert;
mod mpnet;
mod names;
mod package;
mod packed;
mod pool;
mod relative;
mod rotary;
mod rotary_bert;
mod script;
mod simd;
mod t5;
mod weights;

use std::sync::{Arc, Mutex};

use tch::{Kind, TchError, Tensor};

use super::{EncodeError, Encoder};
use crate::batch::TokenBatch;
use crate::device::Device;
use crate::matrix::Matrix;
use crate::model::Sizes;
use crate::model::config_file::ConfigFile;
use crate::model::script::{Script, ScriptOutput};
use crate::model::spec::ModelSpec;
use crate::model::{LoadError, OutputValue};
use chain::Chain;
pub use device::{cuda_devices, why_no_cuda};
use layers::Mix;
use packed::Packed;
use weights::Weights;

/// A family of models: what `model_type` it goes by, and how it is checked and built. Both are told the type, since one
/// architecture may serve several.
struct Family {
    model_type: &'static str,
    /// Refuses a config.json that the family cannot honour; reads no weights.
    check: fn(&str, &ConfigFile) -> Result<Sizes, LoadError>,
    build: Build,
}

/// Builds a model from its type, its configuration and its weights.
type Build = fn(&str, &ConfigFile, &mut Weights) -> Result<Box<dyn Transformer>, LoadError>;

/// A line of [`FAMILIES`].
macro_rules! family {
    ($model_type:literal, $architecture:ident) => {
        Family { model_type: $model_type, check: $architecture::check, build: $architecture::build }
    };
}

/// Every family there is; a new one is a file and a line here.
const FAMILIES: [Family; 23] = [
    family!("bert", bert),
    family!("roberta", bert),
    family!("xlm-roberta", bert),
    family!("camembert", bert),
    family!("electra", bert),
    family!("mpnet", mpnet),
    family!("distilbert", distilbert),
    family!("albert", albert),
    family!("deberta-v2", deberta),
    family!("modernbert", modernbert),
    family!("nomic_bert", rotary_bert),
    family!("gte", rotary_bert),
    family!("new", rotary_bert),
    family!("jina_embeddings_v3", rotary_bert),
    family!("eurobert", decoder),
    family!("qwen2", decoder),
    family!("qwen3", decoder),
    family!("mistral", decoder),
    family!("llama", decoder),
    family!("gemma3_text", gemma),
    family!("t5", t5),
    family!("mt5", t5),
    family!("umt5", t5),
];

/// Families that read `is_causal`, and those whose attention transformers computes without looking at it.
const OF_BOTH_WAYS: [&str; 8] =
    ["deberta-v2", "eurobert", "gemma3_text", "llama", "mistral", "mpnet", "qwen2", "qwen3"];

/// The `model_type` of every family.
pub fn families() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.model_type).collect()
}

/// What a family computes. It may move to another thread, but is used by one at a time.
trait Transformer: Send {
    /// The last layer's token vectors, or what `mix` makes of all layers'. `[tokens, hidden]`
    fn forward(&mut self, batch: &Packed, mix: Mix) -> Result<Tensor, TchError>;

    /// The same model for another worker on the same device: the weights are shared, what it writes to is its own.
    fn share(&self) -> Result<Box<dyn Transformer>, TchError>;
}

fn family(model_type: &str, file: &ConfigFile) -> Result<&'static Family, LoadError> {
    FAMILIES.iter().find(|family| family.model_type == model_type).ok_or_else(|| {
        let known = families().join(", ");
        file.error(format!("`model_type` is {model_type:?}, which this version does not support; there are {known}"))
    })
}

/// The sizes of a model, or why no family here can compute it. Reads no weights.
pub fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    if !OF_BOTH_WAYS.contains(&model_type) && file.get("is_causal").is_some() && file.flag("is_causal")? {
        return Err(file.error("`is_causal` is true, which this version does not support for this family"));
    }
    (family(model_type, file)?.check)(model_type, file)
}

/// Loads the model on a device, to be used on this thread alone. `threads` counts on a CPU.
pub fn load(
    spec: &Arc<ModelSpec>,
    device: Device,
    threads: usize,
    loaded: &SharedModel,
) -> Result<Box<dyn Encoder>, LoadError> {
    if spec.script.is_none() {
        device::check(spec.precision, device)?;
    }
    device::prepare_thread(device, threads);
    let model = match device {
        Device::Cuda(_) => build(spec, device)?,
        Device::Cpu => loaded.share(|| build(spec, device))?,
    };
    Ok(Box::new(TorchEncoder { model, spec: spec.clone(), device: device::torch(device) }))
}

/// The transformer and what comes after it.
struct Model {
    transformer: Box<dyn Transformer>,
    chain: Chain,
}

impl Model {
    fn share(&self) -> Result<Model, TchError> {
        Ok(Model { transformer: self.transformer.share()?, chain: self.chain.share() })
    }
}

fn build(spec: &ModelSpec, device: Device) -> Result<Model, LoadError> {
    // The smaller part first: what is wrong with it shows before the large one is read.
    let chain = Chain::load(&spec.chain, spec.prompt_tokens, device)?;
    Ok(Model { transformer: build_transformer(spec, device)?, chain })
}

/// Tries a script on the first device that can run it: a GPU, where there is one.
pub fn probe_script(script: &Script) -> Result<ScriptOutput, LoadError> {
    // A script may name the kind of device that it was made on.
    let gpu = (cuda_devices() > 0).then_some(Device::Cuda(0));
    tch::no_grad(|| match gpu.and_then(|gpu| script::load(script, gpu).ok()) {
        Some((_, given)) => Ok(given),
        None => script::load(script, Device::Cpu).map(|(_, given)| given),
    })
}

fn build_transformer(spec: &ModelSpec, device: Device) -> Result<Box<dyn Transformer>, LoadError> {
    if let Some(script) = &spec.script {
        return Ok(Box::new(script::load(script, device)?.0));
    }
    let failed = || LoadError::Load { device, message: "it has no config.json".into() };
    let file = spec.config.as_ref().ok_or_else(failed)?;
    let mut weights = Weights::in_precision(&spec.weights, device, spec.precision)?;
    (family(&spec.family, file)?.build)(&spec.family, file, &mut weights)
}

/// What the workers on the CPU share: the first to come loads the model and leaves it here, and every worker takes a
/// share of it. Memory and caches then hold the weights once, however many workers there are.
#[derive(Default)]
pub struct SharedModel(Mutex<Option<Model>>);

impl SharedModel {
    fn share(&self, build: impl FnOnce() -> Result<Model, LoadError>) -> Result<Model, LoadError> {
        let failed = |message: String| LoadError::Load { device: Device::Cpu, message };
        let mut loaded = self.0.lock().map_err(|_| failed("it panicked in another worker".into()))?;
        let whole = match loaded.take() {
            Some(whole) => whole,
            None => build()?,
        };
        loaded.insert(whole).share().map_err(|error| failed(error.to_string()))
    }
}

struct TorchEncoder {
    model: Model,
    spec: Arc<ModelSpec>,
    device: tch::Device,
}

impl Encoder for TorchEncoder {
    fn dim(&self) -> usize {
        self.spec.dim
    }

    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError> {
        let failed = |message| device::encode_error(batch.rows(), batch.tokens(), message);
        self.check_batch(batch).map_err(&failed)?;
        let dim = self.spec.dim;
        if self.spec.value == OutputValue::TokenEmbeddings {
            return self.token_vectors(batch).map_err(|error| failed(error.to_string()));
        }
        let mut matrix = Matrix::zeros(batch.rows(), dim);
        let (order, values) = self.run(batch).map_err(|error| failed(error.to_string()))?;
        for (packed_row, &row) in order.iter().enumerate() {
            matrix.row_mut(row).copy_from_slice(&values[packed_row * dim..][..dim]);
        }
        if order.len() < batch.rows() {
            let nothing = self.of_nothing().map_err(|error| failed(error.to_string()))?;
            for row in (0..batch.rows()).filter(|&row| batch.length(row) == 0) {
                matrix.row_mut(row).copy_from_slice(&nothing);
            }
        }
        Ok(matrix)
    }
}

impl TorchEncoder {
    /// An id or a length that the model has no row for is an error here; on a GPU it would end the process.
    fn check_batch(&self, batch: &TokenBatch) -> Result<(), String> {
        let vocab_size = self.spec.vocab_size;
        if let Some(id) = batch.ids().iter().find(|&&id| id < 0 || id as usize >= vocab_size) {
            return Err(format!("token id {id} is not in the vocabulary of {vocab_size}"));
        }
        let longest = (0..batch.rows()).map(|row| batch.length(row)).max().unwrap_or(0);
        let most = self.spec.max_seq_length;
        if longest > most { Err(format!("a sequence has {longest} tokens, over the model's {most}")) } else { Ok(()) }
    }

    /// The rows that have tokens, as they were packed, and their vectors end to end.
    fn run(&mut self, batch: &TokenBatch) -> Result<(Vec<usize>, Vec<f32>), TchError> {
        let packed = Packed::new(batch, self.device)?;
        let values = self.compute(&packed, packed.order.len())?;
        Ok((packed.order, values))
    }

    /// The vectors of all tokens, sequence after sequence in the batch's order.
    fn token_vectors(&mut self, batch: &TokenBatch) -> Result<Matrix, TchError> {
        let dim = self.spec.dim;
        let packed = Packed::new(batch, self.device)?;
        let values = self.compute(&packed, batch.tokens())?;
        if packed.order.is_sorted() {
            return Ok(Matrix::new(dim, values));
        }
        let mut matrix = Matrix::zeros(batch.tokens(), dim);
        let mut values = values.chunks_exact(dim);
        for &row in &packed.order {
            for (token, vector) in (batch.bounds()[row]..batch.bounds()[row + 1]).zip(&mut values) {
                matrix.row_mut(token).copy_from_slice(vector);
            }
        }
        Ok(matrix)
    }

    /// `vectors` vectors of a packed batch, end to end.
    fn compute(&mut self, packed: &Packed, vectors: usize) -> Result<Vec<f32>, TchError> {
        if packed.order.is_empty() {
            return Ok(Vec::new());
        }
        let mix = Mix::new(self.model.chain.layer_weights());
        let tokens = self.model.transformer.forward(packed, mix)?;
        // Whatever the transformer computes in, its vectors are pooled and changed in single precision.
        let found = self.model.chain.forward(tokens.f_to_kind(Kind::Float)?, packed)?;
        floats(&found, vectors * self.spec.dim)
    }

    /// The vector of a row without tokens.
    fn of_nothing(&self) -> Result<Vec<f32>, TchError> {
        floats(&self.model.chain.of_nothing(self.spec.hidden, self.device)?, self.spec.dim)
    }
}

/// A tensor's values, back from the device.
fn floats(tensor: &Tensor, count: usize) -> Result<Vec<f32>, TchError> {
    let mut values = vec![0.0; count];
    tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_copy_data(&mut values, count)?;
    Ok(values)
}

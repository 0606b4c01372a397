//! The trait [`Encoder`] on libtorch: checks a batch, packs it, runs the model, and puts the vectors in the batch's order.

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::layers::layer_sum::WeightedLayerSum;
use super::libtorch;
use super::packed_batch::PackedBatch;
use super::script_transformer;
use super::shared_model::{LoadedModel, SharedModel};
use crate::batch::TokenBatch;
use crate::device::Device;
use crate::encode::{EncodeError, Encoder};
use crate::matrix::Matrix;
use crate::model::script::{Script, ScriptOutput};
use crate::model::spec::ModelSpec;
use crate::model::{LoadError, OutputValue};

/// Loads the model on a device, for use on the calling thread alone. On a CPU its operations use `threads` threads, and the
/// weights are shared through `loaded`.
///
/// # Errors
/// If the device does not suit the model's precision, or the weights cannot be read or are not those of the model.
pub(crate) fn load(
    spec: &Arc<ModelSpec>,
    device: Device,
    threads: usize,
    loaded: &SharedModel,
) -> Result<Box<dyn Encoder>, LoadError> {
    if spec.script.is_none() {
        libtorch::check_precision(spec.precision, device)?;
    }
    libtorch::prepare_thread(device, threads);
    let model = match device {
        Device::Cuda(_) => LoadedModel::load(spec, device)?,
        Device::Cpu => loaded.share_or_load(|| LoadedModel::load(spec, device))?,
    };
    Ok(Box::new(TorchEncoder { model, spec: spec.clone(), device: libtorch::device(device) }))
}

/// Runs a script on its trial texts, on the first GPU if it runs there, else on the CPU. This executes the script's code.
///
/// # Errors
/// If the script does not load, or does not return vectors.
pub(crate) fn probe_script(script: &Script) -> Result<ScriptOutput, LoadError> {
    // A script may name the kind of device that it was made on.
    let gpu = (libtorch::cuda_devices() > 0).then_some(Device::Cuda(0));
    tch::no_grad(|| match gpu.and_then(|gpu| script_transformer::load(script, gpu).ok()) {
        Some((_, output)) => Ok(output),
        None => script_transformer::load(script, Device::Cpu).map(|(_, output)| output),
    })
}

struct TorchEncoder {
    model: LoadedModel,
    spec: Arc<ModelSpec>,
    device: tch::Device,
}

impl Encoder for TorchEncoder {
    fn dim(&self) -> usize {
        self.spec.dim
    }

    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError> {
        let failed = |message| libtorch::encode_error(batch.rows(), batch.tokens(), message);
        self.check_batch(batch).map_err(&failed)?;
        let vectors = match self.spec.value {
            OutputValue::TokenEmbeddings => self.token_vectors(batch),
            OutputValue::SentenceEmbedding => self.sentence_vectors(batch),
        };
        vectors.map_err(|error| failed(error.to_string()))
    }
}

impl TorchEncoder {
    /// Refuses a token id or a length that the model has no row for. On a GPU it would end the process.
    fn check_batch(&self, batch: &TokenBatch) -> Result<(), String> {
        let vocab_size = self.spec.vocab_size;
        if let Some(id) = batch.ids().iter().find(|&&id| id < 0 || id as usize >= vocab_size) {
            return Err(format!("token id {id}: not in the vocabulary; expected an id below {vocab_size}"));
        }
        let longest = (0..batch.rows()).map(|row| batch.length(row)).max().unwrap_or(0);
        let tokens_max = self.spec.max_seq_length;
        if longest > tokens_max {
            return Err(format!("sequence of {longest} tokens: too long for the model; expected at most {tokens_max}"));
        }
        Ok(())
    }

    /// One vector for each sequence, in the batch's order. `[rows, dim]`
    fn sentence_vectors(&mut self, batch: &TokenBatch) -> Result<Matrix, TchError> {
        let dim = self.spec.dim;
        let mut matrix = Matrix::zeros(batch.rows(), dim);
        let packed = PackedBatch::new(batch, self.device)?;
        let values = self.compute(&packed, packed.order.len())?;
        for (packed_row, &row) in packed.order.iter().enumerate() {
            matrix.row_mut(row).copy_from_slice(&values[packed_row * dim..][..dim]);
        }
        if packed.order.len() < batch.rows() {
            let empty = self.empty_sequence()?;
            for row in (0..batch.rows()).filter(|&row| batch.length(row) == 0) {
                matrix.row_mut(row).copy_from_slice(&empty);
            }
        }
        Ok(matrix)
    }

    /// The vectors of all tokens, sequence after sequence in the batch's order. `[tokens, dim]`
    fn token_vectors(&mut self, batch: &TokenBatch) -> Result<Matrix, TchError> {
        let dim = self.spec.dim;
        let packed = PackedBatch::new(batch, self.device)?;
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

    /// The `count` vectors of a packed batch, end to end in packed order.
    fn compute(&mut self, packed: &PackedBatch, count: usize) -> Result<Vec<f32>, TchError> {
        if packed.order.is_empty() {
            return Ok(Vec::new());
        }
        let layer_sum = WeightedLayerSum::new(self.model.modules.layer_weights());
        let tokens = self.model.transformer.forward(packed, layer_sum)?;
        // Whatever precision the transformer computes in, the modules after it compute in single precision.
        let vectors = self.model.modules.forward(tokens.f_to_kind(Kind::Float)?, packed)?;
        values(&vectors, count * self.spec.dim)
    }

    /// The vector of a sequence without tokens.
    fn empty_sequence(&self) -> Result<Vec<f32>, TchError> {
        values(&self.model.modules.empty_sequence(self.spec.hidden, self.device)?, self.spec.dim)
    }
}

/// A tensor's `count` values, copied from the device.
fn values(tensor: &Tensor, count: usize) -> Result<Vec<f32>, TchError> {
    let mut values = vec![0.0; count];
    tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_copy_data(&mut values, count)?;
    Ok(values)
}

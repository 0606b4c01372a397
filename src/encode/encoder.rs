//! The trait of a loaded model: batches of tokens in, matrices of vectors out.

use crate::batch::TokenBatch;
use crate::failure::Failure;
use crate::matrix::Matrix;

/// A model on a device. A worker builds, uses and drops it on its own thread.
pub trait Encoder {
    /// Length of the vectors that [`encode`](Encoder::encode) returns.
    fn dim(&self) -> usize;

    /// Encodes a batch. Returns one row per sequence, in the batch's order, or for token embeddings one row per token, sequence
    /// after sequence: `[rows, dim]` or `[tokens, dim]`. A row depends only on the tokens of its own sequence, within the rounding
    /// of f32.
    ///
    /// # Errors
    /// If the device runs out of memory, or the model fails.
    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError>;
}

/// Why a batch was not encoded.
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The batch does not fit the device's memory; a smaller one may.
    #[error("the device ran out of memory on a batch of {rows} sequences and {tokens} tokens: {message}")]
    OutOfMemory { rows: usize, tokens: usize, message: String },
    /// Any other failure of the model.
    #[error("the model failed on a batch of {rows} sequences and {tokens} tokens: {message}")]
    Failed { rows: usize, tokens: usize, message: String },
    /// A worker panicked, which ends the pool.
    #[error("an encoder's thread panicked (its message is on standard error)")]
    WorkerPanicked,
}

impl EncodeError {
    /// Whether a retry can help.
    pub fn failure(&self) -> Failure {
        match self {
            EncodeError::OutOfMemory { .. } => Failure::Retry,
            EncodeError::Failed { .. } | EncodeError::WorkerPanicked => Failure::Fatal,
        }
    }
}

//! Why a text cannot be tokenised.

use crate::failure::Failure;

/// Why a text cannot be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizers crate failed.
    #[error("the tokenizer failed on a text of {bytes} bytes: {message}")]
    Failed { bytes: usize, message: String },
}

impl TokenizeError {
    /// A retry does not help: the same text fails again.
    pub fn failure(&self) -> Failure {
        Failure::Poison
    }
}

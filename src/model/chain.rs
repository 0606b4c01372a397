//! The modules after the transformer, as data: each with its settings and the files of its weights.
//!
//! sentence-transformers passes a dictionary of tensors from module to module. Two of them matter here: `token_embeddings`,
//! which the transformer makes, and `sentence_embedding`, which the Pooling makes of it. A module before the Pooling works on
//! token embeddings, one after it on the sentence embedding, so the chain is a plain list.

use std::fmt;
use std::path::PathBuf;

pub(crate) use super::dense::Dense;
pub use super::dense::DenseActivation;
use super::pooling::{self, PoolingMode};

/// A module after the transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Replaces the token embeddings by the weighted mean of those of the layers from `start` on, where layer 0 is the input of
    /// the first one. It comes first.
    WeightedLayers { weights: Vec<PathBuf>, start: usize, layers: usize },
    /// Makes one vector of the token embeddings; the vectors of several modes are concatenated.
    Pooling { modes: Vec<PoolingMode> },
    /// A linear layer and an activation.
    Dense(Dense),
    /// torch's LayerNorm over the vector, with its default epsilon.
    LayerNorm { weights: Vec<PathBuf>, width: usize },
    /// Divides the vector by its Euclidean length.
    Normalize,
    /// Keeps the first `dim` values of the vector.
    Truncate { dim: usize },
}

/// The checked modules of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainSpec {
    /// Exactly one is a Pooling, except for token embeddings and for a script that returns sentence embeddings, where none is.
    pub modules: Vec<Module>,
    /// Length of an output vector.
    pub dim: usize,
    /// Whether a prompt's tokens count in the pooling.
    pub include_prompt: bool,
}

impl ChainSpec {
    /// The files of the modules' own weights, in the chain's order.
    pub(crate) fn weights(&self) -> Vec<PathBuf> {
        let weights = self.modules.iter().filter_map(|module| match module {
            Module::Dense(Dense { weights, .. })
            | Module::LayerNorm { weights, .. }
            | Module::WeightedLayers { weights, .. } => Some(weights.clone()),
            Module::Pooling { .. } | Module::Normalize | Module::Truncate { .. } => None,
        });
        weights.flatten().collect()
    }
}

/// The module in words, for `explain` and the output's metadata. Published files have these words, so they do not change.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Module::WeightedLayers { start, layers, .. } => write!(f, "layers {start} to {layers} weighted"),
            Module::Pooling { modes } => write!(f, "{} pooling", pooling::join(modes)),
            Module::Dense(dense) => {
                write!(f, "dense {} to {} ({}", dense.width_in, dense.width_out, dense.activation)?;
                write!(
                    f,
                    "{}{})",
                    if dense.bias { "" } else { ", no bias" },
                    if dense.residual { ", residual" } else { "" }
                )
            }
            Module::LayerNorm { .. } => f.write_str("layer norm"),
            Module::Normalize => f.write_str("normalised"),
            Module::Truncate { dim } => write!(f, "first {dim} values"),
        }
    }
}

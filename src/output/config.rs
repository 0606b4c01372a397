//! `output:` in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantize::{OutputPrecision, RangesConfig};
use crate::model::OutputValue;

/// `output:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Whether the text that was embedded is a column; search results show it.
    pub text: bool,
    /// What a text becomes, by sentence-transformers' names: `sentence_embedding`, its vector in the column `vector`, or
    /// `token_embeddings`, the vectors of its tokens in the column `token_vectors`.
    pub value: OutputValue,
    /// What vectors are written as: float32, int8, uint8, or a bit a value as binary or ubinary.
    pub precision: OutputPrecision,
    /// Of int8 and uint8: between which numbers the values lie, as [LEAST, MOST] or a file that `embedmill calibrate` made.
    pub ranges: Option<RangesConfig>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        OutputConfig {
            text: true,
            value: OutputValue::SentenceEmbedding,
            precision: OutputPrecision::Float32,
            ranges: None,
        }
    }
}

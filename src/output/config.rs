//! `output:` in the pipeline file: which columns are written, and how vectors are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantize::{OutputPrecision, RangesConfig};
use crate::model::OutputValue;

/// `output:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Whether to write the embedded text, in the column `text`; search results show it.
    pub text: bool,
    /// What a text is embedded to, by sentence-transformers' names: `sentence_embedding`, one vector in the column
    /// `vector`, or `token_embeddings`, one vector per token in the column `token_vectors`.
    pub value: OutputValue,
    /// How the values of vectors are written: float32, int8, uint8, or one bit per value as binary or ubinary.
    pub precision: OutputPrecision,
    /// For int8 and uint8: the range of the values, as [MIN, MAX] or a calibration file made by `embedmill calibrate`.
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

//! The schema of the output: its columns, and its metadata with the format version and the provenance of the vectors.
//!
//! | column | Arrow type | meaning |
//! |---|---|---|
//! | `id` | Utf8 | the id field of the record, else its position |
//! | `text` | Utf8 | the embedded text; only with `output.text` |
//! | kept columns | as in the pipeline file | the fields of `record.keep`, by the names of their columns; nullable |
//! | `vector` | FixedSizeList(width x item) | the embedding; `item` is Float32, Int8 or UInt8 by `output.precision`, and `width` is the dimension, or an eighth of it (rounded up) for bits |
//! | `token_vectors` | List(FixedSizeList(dim x Float32)) | one vector per token; in place of `vector` with `output.value: token_embeddings` |
//! | `tokens` | UInt32 | how many tokens were embedded, special tokens included |
//! | `truncated` | UInt32 | how many tokens truncation removed |
//! | `content_hash` | FixedSizeBinary(32) | SHA-256 of the embedded text |
//! | `source` | Utf8 | the file's path, or `topic[partition]` |
//! | `source_offset` | Int64 | the record's number in its file or partition, from 0 |
//!
//! The keys of the metadata begin with `embedmill.`: `format_version`, `version` (of the program), and the provenance.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sha2::{Digest, Sha256};

use super::quantize::{OutputPrecision, Quantizer};
use super::version::FORMAT_VERSION;
use crate::columnar::kept::KeptSchema;
use crate::digest::hex;
use crate::model::OutputValue;

/// The names of the columns that embedmill writes by itself; kept columns cannot have them.
pub(crate) const OWN_COLUMNS: [&str; 9] =
    ["id", "text", "vector", "token_vectors", "tokens", "truncated", "content_hash", "source", "source_offset"];

/// The columns and metadata of a run's output.
#[derive(Debug, Clone)]
pub struct OutputSchema {
    pub(super) schema: SchemaRef,
    pub(super) kept_columns: usize,
    pub(super) text: bool,
    pub(super) dim: usize,
    pub(super) quantizer: Quantizer,
    pub(super) value: OutputValue,
}

impl OutputSchema {
    /// A schema with vectors of `dim` float32 values, with the column `text` if `text` is set. `provenance` is written
    /// to the metadata, so it must not contain secrets.
    pub fn new(dim: usize, text: bool, kept: &KeptSchema, provenance: &[(String, String)]) -> Self {
        OutputSchema::quantized(dim, text, kept, provenance, Quantizer::float32())
    }

    /// As [`new`](OutputSchema::new), with a list of token vectors in the column `token_vectors` in place of `vector`.
    pub fn of_tokens(dim: usize, text: bool, kept: &KeptSchema, provenance: &[(String, String)]) -> Self {
        let of_texts = OutputSchema::new(dim, text, kept, provenance);
        let fields = of_texts.schema.fields().iter().map(|field| match field.name().as_str() {
            "vector" => {
                let vector = Arc::new(Field::new("item", field.data_type().clone(), false));
                Arc::new(Field::new("token_vectors", DataType::List(vector), false))
            }
            _ => field.clone(),
        });
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), of_texts.schema.metadata().clone());
        OutputSchema { schema: Arc::new(schema), value: OutputValue::TokenEmbeddings, ..of_texts }
    }

    /// How many vectors a row with this many tokens has.
    pub fn vectors_per_row(&self, tokens: usize) -> usize {
        match self.value {
            OutputValue::SentenceEmbedding => 1,
            OutputValue::TokenEmbeddings => tokens,
        }
    }

    /// As [`new`](OutputSchema::new), with vectors as `quantizer` writes them.
    pub fn quantized(
        dim: usize,
        text: bool,
        kept: &KeptSchema,
        provenance: &[(String, String)],
        quantizer: Quantizer,
    ) -> Self {
        let precision = quantizer.precision();
        let item = match precision {
            OutputPrecision::Float32 => DataType::Float32,
            _ if precision.is_signed() => DataType::Int8,
            _ => DataType::UInt8,
        };
        let item = Arc::new(Field::new("item", item, true));
        let width = precision.width(dim);
        let mut fields = vec![Arc::new(Field::new("id", DataType::Utf8, false))];
        if text {
            fields.push(Arc::new(Field::new("text", DataType::Utf8, false)));
        }
        fields.extend(kept.schema().fields().iter().cloned());
        fields.extend(
            [
                Field::new("vector", DataType::FixedSizeList(item, width as i32), false),
                Field::new("tokens", DataType::UInt32, false),
                Field::new("truncated", DataType::UInt32, false),
                Field::new("content_hash", DataType::FixedSizeBinary(32), false),
                Field::new("source", DataType::Utf8, false),
                Field::new("source_offset", DataType::Int64, false),
            ]
            .map(Arc::new),
        );
        let own = [("format_version", FORMAT_VERSION.to_string()), ("version", env!("CARGO_PKG_VERSION").to_string())];
        let own = own.map(|(key, value)| (key.to_string(), value.to_string()));
        let own = own.iter().chain(provenance).cloned().chain(quantizer.provenance());
        let metadata = own.map(|(key, value)| (format!("embedmill.{key}"), value.clone()));
        let schema = Schema::new(fields).with_metadata(metadata.collect::<HashMap<_, _>>());
        OutputSchema {
            schema: Arc::new(schema),
            kept_columns: kept.fields().len(),
            text,
            dim,
            quantizer,
            value: OutputValue::SentenceEmbedding,
        }
    }

    /// The Arrow schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Each column's name and type.
    pub fn names_and_types(&self) -> Vec<(String, String)> {
        self.schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
    }

    /// How many numbers a row's vector is written as.
    pub fn width(&self) -> usize {
        self.quantizer.precision().width(self.dim)
    }

    /// A digest of columns, types and metadata, by which readers notice a change of the schema.
    pub fn fingerprint(&self) -> String {
        let mut metadata: Vec<_> = self.schema.metadata().iter().collect();
        metadata.sort();
        let described = format!("{:?} {metadata:?}", self.schema.fields());
        hex(&Sha256::digest(described.as_bytes())[..8])
    }
}

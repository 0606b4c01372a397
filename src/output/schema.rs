//! The output's schema: its columns, its version, and what its metadata says of where the vectors come from.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sha2::{Digest, Sha256};

use super::quantize::{OutputPrecision, Quantizer};
use crate::columnar::kept::KeptSchema;
use crate::digest::hex;
use crate::model::OutputValue;

/// Changes whenever a column's name, type or meaning does.
pub const FORMAT_VERSION: &str = "1";

/// The columns that embedmill itself writes; kept columns cannot have these names.
pub const OWN_COLUMNS: [&str; 9] =
    ["id", "text", "vector", "token_vectors", "tokens", "truncated", "content_hash", "source", "source_offset"];

/// What a run's output looks like.
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
    /// Columns `id`, `text` (if wanted), the kept ones, `vector` and the rest; `provenance` goes into the schema's
    /// metadata and must hold no secret. Vectors are written as they are.
    pub fn new(dim: usize, text: bool, kept: &KeptSchema, provenance: &[(String, String)]) -> Self {
        OutputSchema::quantized(dim, text, kept, provenance, Quantizer::float32())
    }

    /// With the vectors of a row's tokens as a list in the column `token_vectors`, in place of `vector`.
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

    /// How many vectors a row of so many tokens has.
    pub fn vectors_per_row(&self, tokens: usize) -> usize {
        match self.value {
            OutputValue::SentenceEmbedding => 1,
            OutputValue::TokenEmbeddings => tokens,
        }
    }

    /// The same, with vectors as the quantizer writes them.
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
        let own = [("format_version", FORMAT_VERSION), ("version", env!("CARGO_PKG_VERSION"))];
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

    /// The same for schemas of the same columns, types and provenance; readers tell by it that the schema changed.
    pub fn fingerprint(&self) -> String {
        let mut metadata: Vec<_> = self.schema.metadata().iter().collect();
        metadata.sort();
        let described = format!("{:?} {metadata:?}", self.schema.fields());
        hex(&Sha256::digest(described.as_bytes())[..8])
    }
}

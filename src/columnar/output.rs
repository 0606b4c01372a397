//! Rows as they are published: the output's schema, its version, and a window turned into one Arrow batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int8Array,
    Int64Array, ListArray, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Int8Type, Schema, SchemaRef, UInt8Type};

use sha2::{Digest, Sha256};

use super::kept::KeptSchema;
use crate::encode::folder::hex;
use crate::encode::{Matrix, OutputValue};
use crate::quantize::{OutputPrecision, Quantized, Quantizer, unsigned};
use crate::record::Strings;
use crate::window::Window;

/// Changes whenever a column's name, type or meaning does.
pub const FORMAT_VERSION: &str = "1";

/// The columns that embedmill itself writes; kept columns cannot have these names.
pub const OWN_COLUMNS: [&str; 9] =
    ["id", "text", "vector", "token_vectors", "tokens", "truncated", "content_hash", "source", "source_offset"];

/// What a run's output looks like.
#[derive(Debug, Clone)]
pub struct OutputSchema {
    schema: SchemaRef,
    kept_columns: usize,
    text: bool,
    dim: usize,
    quantizer: Quantizer,
    value: OutputValue,
}

/// One window's rows, in source order.
#[derive(Debug, Clone)]
pub struct Output {
    pub(crate) batch: RecordBatch,
    /// Rows of the window that are not in the batch, ascending.
    left_out: Vec<usize>,
}

impl Output {
    pub(crate) fn new(batch: RecordBatch, left_out: Vec<usize>) -> Self {
        Output { batch, left_out }
    }

    /// The window's rows that are in the batch, in the batch's order.
    pub fn window_rows(&self) -> impl Iterator<Item = usize> {
        let all = 0..self.rows() + self.left_out.len();
        all.filter(|row| self.left_out.binary_search(row).is_err())
    }

    /// How many of the window's rows before `row` are in the batch.
    pub fn rows_before(&self, row: usize) -> usize {
        row - self.left_out.partition_point(|&left_out| left_out < row)
    }

    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Each row's columns but its vector, as a JSON object; what is null is left out.
    pub fn rows_as_json(&self) -> Vec<serde_json::Value> {
        let keep: Vec<usize> = (0..self.batch.num_columns())
            .filter(|&column| self.batch.schema_ref().field(column).name() != "vector")
            .collect();
        let rest = self.batch.project(&keep).map(super::Table::new);
        rest.map_or_else(|_| Vec::new(), |rest| (0..rest.rows()).map(|row| rest.row_value(row)).collect())
    }

    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
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
    pub fn vectors_of(&self, tokens: usize) -> usize {
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
        let schema = Schema::new(fields).with_metadata(metadata.collect::<std::collections::HashMap<_, _>>());
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

    /// The window's rows with their vectors, in source order, each row's one after the other.
    ///
    /// Rows whose vector has a value that is no finite number are left out and returned by their number in the window:
    /// no search could use them.
    ///
    /// # Errors
    /// If `vectors` does not fit the window or the schema: a defect of a stage before.
    pub fn assemble(&self, window: &Window, vectors: Matrix) -> Result<(Output, Vec<usize>), String> {
        let rows = window.rows();
        let counts = window.row_places().map(|(block, row)| self.vectors_of(block.tokens.ids(row).len()));
        let offsets = OffsetBuffer::<i32>::from_lengths(counts);
        let expected = offsets.last() as usize;
        if vectors.rows() != expected || vectors.dim() != self.dim {
            return Err(format!(
                "{} vectors of {} for {rows} rows with {expected} of {} in window {}",
                vectors.rows(),
                vectors.dim(),
                self.dim,
                window.number
            ));
        }
        let is_finite = |vector: i32| vectors.row(vector as usize).iter().all(|value| value.is_finite());
        let finite: Vec<bool> = offsets.windows(2).map(|row| (row[0]..row[1]).all(is_finite)).collect();
        let batch =
            self.columns(window, vectors, offsets).map_err(|error| format!("window {}: {error}", window.number))?;
        let bad: Vec<usize> = (0..rows).filter(|&row| !finite[row]).collect();
        if bad.is_empty() {
            return Ok((Output::new(batch, Vec::new()), bad));
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(finite)).map_err(|error| error.to_string())?;
        Ok((Output::new(batch, bad.clone()), bad))
    }

    /// `offsets` are where each row's vectors begin, and the end of the last.
    fn columns(
        &self,
        window: &Window,
        vectors: Matrix,
        offsets: OffsetBuffer<i32>,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let strings = |part: fn(&crate::record::Block) -> Option<&Strings>| -> ArrayRef {
            let parts: Vec<&Strings> = window.blocks.iter().filter_map(part).collect();
            Arc::new(string_array(&parts))
        };
        let mut arrays: Vec<ArrayRef> = vec![strings(|block| Some(&block.ids))];
        if self.text {
            arrays.push(strings(|block| block.texts.as_ref()));
        }
        for column in 0..self.kept_columns {
            let parts: Vec<&dyn Array> =
                window.blocks.iter().map(|block| block.kept.0.column(column).as_ref()).collect();
            arrays.push(match parts.as_slice() {
                [] => arrow::array::new_empty_array(self.schema.field(1 + usize::from(self.text) + column).data_type()),
                parts => concat(parts)?,
            });
        }
        let values: ArrayRef = match self.quantizer.apply(vectors) {
            Quantized::Float32(values) => Arc::new(Float32Array::from(values)),
            Quantized::Int8(values) => Arc::new(Int8Array::from(values)),
            Quantized::Uint8(values) => Arc::new(UInt8Array::from(values)),
        };
        let width = self.quantizer.precision().width(self.dim) as i32;
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let vectors = FixedSizeListArray::try_new(item, width, values, None)?;
        arrays.push(match self.value {
            OutputValue::SentenceEmbedding => Arc::new(vectors),
            OutputValue::TokenEmbeddings => {
                let item = Arc::new(Field::new("item", vectors.data_type().clone(), false));
                Arc::new(ListArray::try_new(item, offsets, Arc::new(vectors), None)?)
            }
        });
        let tokens = window.row_places().map(|(block, row)| block.tokens.ids(row).len() as u32);
        arrays.push(Arc::new(tokens.collect::<UInt32Array>()));
        let truncated = window.row_places().map(|(block, row)| block.tokens.truncated(row));
        arrays.push(Arc::new(truncated.collect::<UInt32Array>()));
        let hashes: Vec<u8> = window.row_places().flat_map(|(block, row)| block.hashes[row]).collect();
        arrays.push(Arc::new(FixedSizeBinaryArray::try_new(32, Buffer::from_vec(hashes), None)?));
        let source = |block: &crate::record::Block| std::iter::repeat_n(block.partition.name(), block.rows());
        arrays.push(Arc::new(StringArray::from_iter_values(window.blocks.iter().flat_map(source))));
        let offsets = window.row_places().map(|(block, row)| block.body.offset(block.row_records[row]) as i64);
        arrays.push(Arc::new(offsets.collect::<Int64Array>()));
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

/// One array of all parts, with one copy.
fn string_array(parts: &[&Strings]) -> StringArray {
    let lengths = parts.iter().flat_map(|part| part.iter().map(str::len));
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    let mut text = String::with_capacity(parts.iter().map(|part| part.bytes()).sum());
    parts.iter().for_each(|part| text.push_str(part.as_str()));
    StringArray::new(offsets, Buffer::from_vec(text.into_bytes()), None)
}

/// Rows read back from an output: what `search` compares with a query.
#[derive(Debug)]
pub struct Vectors {
    batch: RecordBatch,
    values: ScalarBuffer<f32>,
    dim: usize,
}

impl Vectors {
    /// # Errors
    /// If the batch has no `vector` column of fixed-size float32 lists.
    pub fn new(batch: RecordBatch) -> Result<Self, String> {
        let (values, dim) = {
            let list = vector_column(&batch)?;
            let dim = list.value_length() as usize;
            let values =
                list.values().as_primitive_opt::<Float32Type>().ok_or("column `vector` does not hold Float32")?;
            (values.values().slice(list.value_offset_at(0), batch.num_rows() * dim), dim)
        };
        Ok(Vectors { batch, values, dim })
    }

    /// About the vectors of `dim` values that the quantizer wrote.
    ///
    /// # Errors
    /// If the column is not of the type that the quantizer writes.
    pub fn restored(batch: RecordBatch, quantizer: &Quantizer, dim: usize) -> Result<Self, String> {
        let precision = quantizer.precision();
        if precision == OutputPrecision::Float32 {
            return Vectors::new(batch);
        }
        let mut values = Vec::with_capacity(batch.num_rows() * dim);
        let list = vector_column(&batch)?;
        let (width, start) = (list.value_length() as usize, list.value_offset_at(0));
        let items = list.values();
        let written: Option<Vec<u8>> = if precision.is_signed() {
            items.as_primitive_opt::<Int8Type>().map(|items| items.values().iter().copied().map(unsigned).collect())
        } else {
            items.as_primitive_opt::<UInt8Type>().map(|items| items.values().to_vec())
        };
        let written = written.filter(|_| width == precision.width(dim) && dim > 0).ok_or_else(|| {
            format!("column `vector` is of type {}, which is not {precision} of {dim} values", list.data_type())
        })?;
        for row in 0..batch.num_rows() {
            values.extend(quantizer.restore(&written[start + row * width..][..width], dim));
        }
        Ok(Vectors { batch, values: values.into(), dim })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// A row's other columns, as a JSON object.
    pub fn row_as_json(&self, index: usize) -> serde_json::Value {
        let keep: Vec<usize> = (0..self.batch.num_columns())
            .filter(|&column| self.batch.schema_ref().field(column).name() != "vector")
            .collect();
        match self.batch.project(&keep) {
            Ok(rest) => super::Table::new(rest).row_value(index),
            Err(_) => serde_json::Value::Null,
        }
    }
}

fn vector_column(batch: &RecordBatch) -> Result<&FixedSizeListArray, String> {
    if batch.column_by_name("token_vectors").is_some() {
        return Err("its rows have a vector for each token, which a text's one vector cannot be compared with; \
                    expected rows of output.value sentence_embedding"
            .into());
    }
    let column = batch.column_by_name("vector").ok_or("there is no column `vector`; is this embedmill's output?")?;
    column
        .as_fixed_size_list_opt()
        .ok_or_else(|| format!("column `vector` is of type {}, expected a fixed-size list", column.data_type()))
}

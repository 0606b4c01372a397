//! Assembles the rows of a window and their vectors to one Arrow batch, in source order.
//!
//! In: a [`Window`] and the vectors of its rows. Out: an [`Output`]. Kept: nothing. A row whose vector contains NaN or
//! infinity is left out of the batch, since no search could use it. Fails only if the vectors do not belong to the
//! window, which is a bug of an earlier stage.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int8Array, Int64Array,
    ListArray, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use super::quantize::Quantized;
use super::schema::OutputSchema;
use crate::columnar::{Strings, Table};
use crate::matrix::Matrix;
use crate::model::OutputValue;
use crate::record::Block;
use crate::window::Window;

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

    /// The window's rows that are not in the batch, because their vectors contain NaN or infinity; ascending.
    pub fn left_out(&self) -> &[usize] {
        &self.left_out
    }

    /// The window's rows that are in the batch, in the order of the batch.
    pub fn window_rows(&self) -> impl Iterator<Item = usize> {
        let all = 0..self.rows() + self.left_out.len();
        all.filter(|row| self.left_out.binary_search(row).is_err())
    }

    /// How many of the window's rows before `row` are in the batch.
    pub fn rows_before(&self, row: usize) -> usize {
        row - self.left_out.partition_point(|&left_out| left_out < row)
    }

    /// The number of rows in the batch.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Each row's columns except `vector`, as a JSON object; null values are left out.
    pub fn rows_as_json(&self) -> Vec<serde_json::Value> {
        let keep: Vec<usize> = (0..self.batch.num_columns())
            .filter(|&column| self.batch.schema_ref().field(column).name() != "vector")
            .collect();
        let rest = self.batch.project(&keep).map(Table::new);
        rest.map_or_else(|_| Vec::new(), |rest| (0..rest.rows()).map(|row| rest.row_value(row)).collect())
    }

    /// The Arrow batch.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
}

impl OutputSchema {
    /// The window's rows with their vectors. `vectors` is `[vectors, dim]`, in source order; row `i` has
    /// [`vectors_per_row`](OutputSchema::vectors_per_row) of them.
    ///
    /// # Errors
    /// If `vectors` does not fit the window or the schema, which is a bug of an earlier stage.
    pub fn assemble(&self, window: &Window, vectors: Matrix) -> Result<Output, String> {
        let rows = window.rows();
        let counts = window.block_rows().map(|(block, row)| self.vectors_per_row(block.tokens.ids(row).len()));
        let offsets = OffsetBuffer::<i32>::from_lengths(counts);
        let expected = offsets.last() as usize;
        if vectors.rows() != expected || vectors.dim() != self.dim {
            return Err(format!(
                "window {}: found {} vectors of {} values; expected {expected} of {} for {rows} rows",
                window.number,
                vectors.rows(),
                vectors.dim(),
                self.dim
            ));
        }
        let is_finite = |vector: i32| vectors.row(vector as usize).iter().all(|value| value.is_finite());
        let finite: Vec<bool> = offsets.windows(2).map(|row| (row[0]..row[1]).all(is_finite)).collect();
        let left_out: Vec<usize> = (0..rows).filter(|&row| !finite[row]).collect();
        let fail = |error: ArrowError| format!("window {}: {error}", window.number);
        let mut batch = self.batch(window, vectors, offsets).map_err(fail)?;
        // Rows are left out so rarely that filtering the whole batch is simpler than building it without them.
        if !left_out.is_empty() {
            batch = filter_record_batch(&batch, &BooleanArray::from(finite)).map_err(fail)?;
        }
        Ok(Output::new(batch, left_out))
    }

    /// All rows as one batch. The vectors of row `i` are `offsets[i]..offsets[i + 1]`.
    fn batch(&self, window: &Window, vectors: Matrix, offsets: OffsetBuffer<i32>) -> Result<RecordBatch, ArrowError> {
        let strings = |column: fn(&Block) -> Option<&Strings>| -> ArrayRef {
            let parts: Vec<&Strings> = window.blocks.iter().filter_map(column).collect();
            Arc::new(string_array(&parts))
        };
        let mut arrays: Vec<ArrayRef> = vec![strings(|block| Some(&block.ids))];
        if self.text {
            arrays.push(strings(|block| block.texts.as_ref()));
        }
        for column in 0..self.kept_columns {
            let parts: Vec<&dyn Array> = window.blocks.iter().map(|block| block.kept.column(column).as_ref()).collect();
            arrays.push(match parts.as_slice() {
                [] => arrow::array::new_empty_array(self.schema.field(1 + usize::from(self.text) + column).data_type()),
                parts => concat(parts)?,
            });
        }
        arrays.push(self.vector_column(vectors, offsets)?);
        let tokens = window.block_rows().map(|(block, row)| block.tokens.ids(row).len() as u32);
        arrays.push(Arc::new(tokens.collect::<UInt32Array>()));
        let truncated = window.block_rows().map(|(block, row)| block.tokens.truncated(row));
        arrays.push(Arc::new(truncated.collect::<UInt32Array>()));
        let hashes: Vec<u8> = window.block_rows().flat_map(|(block, row)| block.hashes[row]).collect();
        arrays.push(Arc::new(FixedSizeBinaryArray::try_new(32, Buffer::from_vec(hashes), None)?));
        let source = |block: &Block| std::iter::repeat_n(block.partition.name(), block.rows());
        arrays.push(Arc::new(StringArray::from_iter_values(window.blocks.iter().flat_map(source))));
        let offsets = window.block_rows().map(|(block, row)| block.body.offset(block.row_records[row]) as i64);
        arrays.push(Arc::new(offsets.collect::<Int64Array>()));
        RecordBatch::try_new(self.schema.clone(), arrays)
    }

    /// The column `vector`, or `token_vectors` with a list of vectors per row.
    fn vector_column(&self, vectors: Matrix, offsets: OffsetBuffer<i32>) -> Result<ArrayRef, ArrowError> {
        let values: ArrayRef = match self.quantizer.apply(vectors) {
            Quantized::Float32(values) => Arc::new(Float32Array::from(values)),
            Quantized::Int8(values) => Arc::new(Int8Array::from(values)),
            Quantized::Uint8(values) => Arc::new(UInt8Array::from(values)),
        };
        let width = self.quantizer.precision().width(self.dim) as i32;
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let vectors = FixedSizeListArray::try_new(item, width, values, None)?;
        Ok(match self.value {
            OutputValue::SentenceEmbedding => Arc::new(vectors),
            OutputValue::TokenEmbeddings => {
                let item = Arc::new(Field::new("item", vectors.data_type().clone(), false));
                Arc::new(ListArray::try_new(item, offsets, Arc::new(vectors), None)?)
            }
        })
    }
}

/// One array of the strings of all parts, with one copy.
fn string_array(parts: &[&Strings]) -> StringArray {
    let lengths = parts.iter().flat_map(|part| part.iter().map(str::len));
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    let mut text = String::with_capacity(parts.iter().map(|part| part.bytes()).sum());
    parts.iter().for_each(|part| text.push_str(part.as_str()));
    StringArray::new(offsets, Buffer::from_vec(text.into_bytes()), None)
}

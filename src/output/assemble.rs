//! A window's rows and their vectors, put back into source order as one Arrow batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int8Array, Int64Array,
    ListArray, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::Field;

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
        let rest = self.batch.project(&keep).map(Table::new);
        rest.map_or_else(|_| Vec::new(), |rest| (0..rest.rows()).map(|row| rest.row_value(row)).collect())
    }

    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
}

impl OutputSchema {
    /// The window's rows with their vectors, in source order, each row's one after the other.
    ///
    /// Rows whose vector has a value that is no finite number are left out and returned by their number in the window:
    /// no search could use them.
    ///
    /// # Errors
    /// If `vectors` does not fit the window or the schema: a defect of a stage before.
    pub fn assemble(&self, window: &Window, vectors: Matrix) -> Result<(Output, Vec<usize>), String> {
        let rows = window.rows();
        let counts = window.row_places().map(|(block, row)| self.vectors_per_row(block.tokens.ids(row).len()));
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
        let strings = |part: fn(&Block) -> Option<&Strings>| -> ArrayRef {
            let parts: Vec<&Strings> = window.blocks.iter().filter_map(part).collect();
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
        let source = |block: &Block| std::iter::repeat_n(block.partition.name(), block.rows());
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

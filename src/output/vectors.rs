//! Vectors read back from an output file, restored to float32.

use arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float32Type, Int8Type, UInt8Type};

use super::quantize::{OutputPrecision, Quantizer, unsigned};
use crate::columnar::Table;

/// A batch of output rows with their vectors, which `search` compares with a query's.
#[derive(Debug)]
pub struct Vectors {
    batch: RecordBatch,
    values: ScalarBuffer<f32>,
    dim: usize,
}

impl Vectors {
    /// The vectors of a batch that was written as float32.
    ///
    /// # Errors
    /// If the batch has no column `vector` of fixed-size lists of float32.
    pub fn new(batch: RecordBatch) -> Result<Self, String> {
        let (values, dim) = {
            let list = vector_column(&batch)?;
            let dim = list.value_length() as usize;
            let values = list.values().as_primitive_opt::<Float32Type>().ok_or("column `vector`: expected Float32")?;
            (values.values().slice(list.value_offset_at(0), batch.num_rows() * dim), dim)
        };
        Ok(Vectors { batch, values, dim })
    }

    /// The vectors of `dim` values of a batch that the quantizer wrote, restored approximately.
    ///
    /// # Errors
    /// If the column `vector` does not have the type that the quantizer writes.
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
            format!("column `vector`: found type {}; expected {precision} of {dim} values", list.data_type())
        })?;
        for row in 0..batch.num_rows() {
            values.extend(quantizer.restore(&written[start + row * width..][..width], dim));
        }
        Ok(Vectors { batch, values: values.into(), dim })
    }

    /// The number of values of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The vector of row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// The other columns of row `index`, as a JSON object.
    pub fn row_as_json(&self, index: usize) -> serde_json::Value {
        let keep: Vec<usize> = (0..self.batch.num_columns())
            .filter(|&column| self.batch.schema_ref().field(column).name() != "vector")
            .collect();
        match self.batch.project(&keep) {
            Ok(rest) => Table::new(rest).row_value(index),
            Err(_) => serde_json::Value::Null,
        }
    }
}

fn vector_column(batch: &RecordBatch) -> Result<&FixedSizeListArray, String> {
    if batch.column_by_name("token_vectors").is_some() {
        return Err("found token vectors, which cannot be compared with the one vector of a text; \
                    expected rows of output.value sentence_embedding"
            .into());
    }
    let column = batch.column_by_name("vector").ok_or("column `vector`: missing; expected an output of embedmill")?;
    column
        .as_fixed_size_list_opt()
        .ok_or_else(|| format!("column `vector`: found type {}; expected a fixed-size list", column.data_type()))
}

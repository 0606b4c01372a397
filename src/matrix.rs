//! Vectors as they leave the encoder: a dense `[rows, dim]` matrix of f32.

/// A matrix of f32 in row-major order. Shape: `[rows, dim]`, with at least one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix over `values`, row after row, each of `dim` values.
    ///
    /// # Panics
    /// If `dim` is 0, or `values` do not divide into whole rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Self {
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "{} values do not divide into rows of {dim}",
            values.len()
        );
        Matrix { dim, values }
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, dim: usize) -> Self {
        Matrix::new(dim, vec![0.0; rows * dim])
    }

    /// The number of columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// One row. `[dim]`
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// One row, to be written. `[dim]`
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.dim..][..self.dim]
    }

    /// All values, row after row. `[rows * dim]`
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

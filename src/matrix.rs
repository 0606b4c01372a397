//! The one shape in which vectors leave the encoder.

/// Rows × dim of f32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// # Panics
    /// If `values` is not a whole number of rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "{} values are no rows of {dim}", values.len());
        Matrix { dim, values }
    }

    pub fn zeros(rows: usize, dim: usize) -> Self {
        Matrix::new(dim, vec![0.0; rows * dim])
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.dim..][..self.dim]
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

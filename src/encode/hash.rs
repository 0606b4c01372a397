//! The encoder that needs no model: token ids in, vectors that depend on the ids alone out.
//!
//! A token's vector is pseudo-random, with its id as the seed. A sequence's vector is the sum of its tokens' vectors,
//! scaled to length 1. Texts that share words are therefore close to each other, so search can be tried with it. The sums are
//! of integers, so the same ids give the same bits on every machine and in every batch. A sequence without tokens gives
//! zeros. It never fails.

use super::{EncodeError, Encoder};
use crate::batch::TokenBatch;
use crate::matrix::Matrix;
use crate::model::OutputValue;

/// Encodes token ids by hashing. See the module for how.
pub(crate) struct HashEncoder {
    dim: usize,
    value: OutputValue,
}

impl HashEncoder {
    /// An encoder of sentence embeddings with `dim` values.
    pub(crate) fn new(dim: usize) -> Self {
        HashEncoder { dim: dim.max(1), value: OutputValue::SentenceEmbedding }
    }

    /// The same encoder for another kind of output. A token embedding is the vector of a sequence of that one token.
    pub(crate) fn with_value(self, value: OutputValue) -> Self {
        HashEncoder { value, ..self }
    }
}

impl Encoder for HashEncoder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError> {
        if self.value == OutputValue::TokenEmbeddings {
            let ids: Vec<[u32; 1]> = batch.ids().iter().map(|&id| [id as u32]).collect();
            return HashEncoder::new(self.dim).encode(&ids.iter().map(<[u32; 1]>::as_slice).collect());
        }
        let mut matrix = Matrix::zeros(batch.rows(), self.dim);
        let mut sums = vec![0i64; self.dim];
        for row in 0..batch.rows() {
            sums.fill(0);
            for &id in batch.row(row) {
                add_token(&mut sums, id);
            }
            let norm = sums.iter().map(|&sum| (sum as f64).powi(2)).sum::<f64>().sqrt();
            // Opposite tokens may cancel out. The row is then zero, as it is for no tokens at all, and never NaN.
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            for (value, &sum) in matrix.row_mut(row).iter_mut().zip(&sums) {
                *value = (sum as f64 * scale) as f32;
            }
        }
        Ok(matrix)
    }
}

/// Adds a token's vector to `sums`: eight signed bytes from each step of a generator that the id seeds.
fn add_token(sums: &mut [i64], id: i32) {
    let mut state = id as u32 as u64;
    for values in sums.chunks_mut(8) {
        // SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        for (value, byte) in values.iter_mut().zip(mixed.to_le_bytes()) {
            *value += i64::from(byte as i8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(dim: usize, rows: &[&[u32]]) -> Matrix {
        let batch: TokenBatch = rows.iter().copied().collect();
        HashEncoder::new(dim).encode(&batch).expect("it never fails")
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_same_ids_give_the_same_bits_in_any_batch() {
        let rows: [&[u32]; 3] = [&[1, 2, 3], &[7], &[1, 2, 4]];
        let together = encode(48, &rows);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(together.row(index), encode(48, &[row]).row(0));
        }
        // Pinned, because vectors that were written earlier must stay comparable with new ones.
        assert_eq!(encode(2, &[&[5]]).row(0), [0.8277809, -0.5610515]);
    }

    #[test]
    fn shared_tokens_are_nearer_and_norms_are_one() {
        let vectors = encode(384, &[&[1, 2, 3, 4], &[1, 2, 3, 9], &[20, 21, 22, 23]]);
        for row in 0..3 {
            assert!((dot(vectors.row(row), vectors.row(row)) - 1.0).abs() < 1e-5);
        }
        assert!(dot(vectors.row(0), vectors.row(1)) > 0.5);
        assert!(dot(vectors.row(0), vectors.row(2)).abs() < 0.3);
    }

    #[test]
    fn no_tokens_and_odd_widths_are_finite() {
        assert_eq!(encode(9, &[&[], &[3]]).row(0), [0.0; 9]);
        assert_eq!(encode(3, &[]).rows(), 0);
    }
}

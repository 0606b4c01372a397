//! Exact nearest neighbours by cosine similarity: a query and blocks of vectors in, the `k` nearest rows out.
//!
//! One pass over the vectors, which keeps only the best `k` rows. Fails where the vectors and the query differ in length.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::output::Vectors;

/// A row that is near the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Cosine similarity of the row and the query, in [-1, 1].
    pub score: f32,
    /// The row without its vector.
    pub row: serde_json::Value,
    /// The row's number among all rows scanned. Among equal scores, earlier rows come first.
    position: u64,
}

/// The best hits so far. It keeps `k` rows, however many are scanned.
#[derive(Debug)]
pub struct Nearest {
    query: Vec<f32>,
    query_norm: f32,
    k: usize,
    /// The worst hit is on top, to be replaced first.
    heap: BinaryHeap<WorstFirst>,
    scanned: u64,
}

/// Orders hits by descending score, so that the heap's greatest element is the worst hit.
#[derive(Debug)]
struct WorstFirst(Hit);

impl Ord for WorstFirst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.position.cmp(&other.0.position))
    }
}

impl PartialOrd for WorstFirst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WorstFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for WorstFirst {}

impl Nearest {
    /// Searches for the `k` rows nearest to `query`.
    pub fn new(query: &[f32], k: usize) -> Self {
        Nearest { query: query.to_vec(), query_norm: norm(query), k, heap: BinaryHeap::new(), scanned: 0 }
    }

    /// Rows scanned so far.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Scans a block of rows.
    ///
    /// # Errors
    /// If the vectors differ from the query in length.
    pub fn scan(&mut self, vectors: &Vectors) -> Result<(), String> {
        if vectors.dim() != self.query.len() {
            return Err(format!(
                "found vectors of length {}; expected {}, the length of the query's vector (was another model used?)",
                vectors.dim(),
                self.query.len()
            ));
        }
        for index in 0..vectors.rows() {
            let row = vectors.row(index);
            let dot: f32 = row.iter().zip(&self.query).map(|(a, b)| a * b).sum();
            let score = dot / (norm(row) * self.query_norm).max(f32::MIN_POSITIVE);
            self.scanned += 1;
            let is_better = self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| score > worst.0.score);
            if is_better {
                self.heap.push(WorstFirst(Hit { score, row: vectors.row_as_json(index), position: self.scanned }));
                if self.heap.len() > self.k {
                    self.heap.pop();
                }
            }
        }
        Ok(())
    }

    /// The hits, nearest first.
    pub fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

//! Exact nearest neighbours by cosine similarity, one pass over the vectors.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::output::Vectors;

/// A row that is near to the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Cosine of the angle between row and query, in [-1, 1].
    pub score: f32,
    /// The row without its vector.
    pub row: serde_json::Value,
    /// When it was seen, so that equal scores keep the order of the rows.
    order: u64,
}

/// The best hits so far. Its memory is that of `k` rows, however many are scanned.
#[derive(Debug)]
pub struct Nearest {
    query: Vec<f32>,
    query_norm: f32,
    k: usize,
    /// The worst hit on top.
    heap: BinaryHeap<Worst>,
    seen: u64,
}

#[derive(Debug)]
struct Worst(Hit);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.order.cmp(&other.0.order))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}

impl Nearest {
    pub fn new(query: &[f32], k: usize) -> Self {
        Nearest { query: query.to_vec(), query_norm: norm(query), k, heap: BinaryHeap::new(), seen: 0 }
    }

    /// Rows scanned so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// # Errors
    /// If the vectors are not as long as the query.
    pub fn scan(&mut self, vectors: &Vectors) -> Result<(), String> {
        if vectors.dim() != self.query.len() {
            return Err(format!(
                "the vectors have {} values and the query {}; was another model used?",
                vectors.dim(),
                self.query.len()
            ));
        }
        for index in 0..vectors.rows() {
            let row = vectors.row(index);
            let dot: f32 = row.iter().zip(&self.query).map(|(a, b)| a * b).sum();
            let score = dot / (norm(row) * self.query_norm).max(f32::MIN_POSITIVE);
            self.seen += 1;
            let better = self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| score > worst.0.score);
            if better {
                self.heap.push(Worst(Hit { score, row: vectors.row_as_json(index), order: self.seen }));
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

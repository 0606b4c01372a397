//! Micro-batches: the lengths of a window's rows in, the groups of rows that go through the model together out.
//!
//! Rows are sorted by length, longest first as in sentence-transformers, and packed under a token budget. Sorting puts
//! equal lengths side by side, so attention runs in few groups. The token budget bounds a batch's memory and time
//! whatever the lengths are. The order in which rows were read does not matter here, because the caller puts results back
//! by row index. Nothing here fails or keeps state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `batch:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Maximum number of tokens in one batch. A longer text is a batch of its own. On a CPU, 1024 to 2048 are fastest; a GPU needs
    /// more.
    pub tokens: usize,
    /// Maximum number of sequences in one batch.
    pub rows: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        BatchConfig { tokens: 2048, rows: 1024 }
    }
}

/// Why a batch takes no more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchClosed {
    /// The next row would exceed the token budget.
    Tokens,
    /// The batch has `batch.rows` rows.
    Rows,
    /// The window has no more rows.
    Window,
}

impl BatchClosed {
    /// Every reason, in the order of the metric's labels.
    pub const ALL: [BatchClosed; 3] = [BatchClosed::Tokens, BatchClosed::Rows, BatchClosed::Window];

    /// The reason as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            BatchClosed::Tokens => "tokens",
            BatchClosed::Rows => "rows",
            BatchClosed::Window => "window",
        }
    }
}

/// The rows of one micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// Indices of the rows within the window, longest row first.
    pub rows: Vec<usize>,
    /// The tokens of all rows, without padding.
    pub tokens: usize,
    /// Why the batch ended.
    pub closed: BatchClosed,
}

/// What counts against a batch's token budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PaddingMode {
    /// The tokens of the rows, because the model pads nothing.
    #[default]
    Packed,
    /// For every row as many tokens as the longest row has, because the model pads.
    Padded,
}

/// Divides rows of these lengths (in tokens) into batches. Every row is in exactly one batch. A batch exceeds the token
/// budget only if it is a single row that does so by itself.
pub fn plan(lengths: &[usize], config: &BatchConfig, padding: PaddingMode) -> Vec<BatchPlan> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut batches = Vec::new();
    let mut current = BatchPlan { rows: Vec::new(), tokens: 0, closed: BatchClosed::Window };
    for row in order {
        let with_row = match (padding, current.rows.first()) {
            (PaddingMode::Padded, Some(&longest)) => (current.rows.len() + 1) * lengths[longest],
            _ => current.tokens + lengths[row],
        };
        let closed = if current.rows.is_empty() {
            None
        } else if with_row > config.tokens {
            Some(BatchClosed::Tokens)
        } else if current.rows.len() >= config.rows {
            Some(BatchClosed::Rows)
        } else {
            None
        };
        if let Some(closed) = closed {
            let next = BatchPlan { rows: Vec::new(), tokens: 0, closed: BatchClosed::Window };
            batches.push(BatchPlan { closed, ..std::mem::replace(&mut current, next) });
        }
        current.tokens += lengths[row];
        current.rows.push(row);
    }
    if !current.rows.is_empty() {
        batches.push(current);
    }
    batches
}

/// Token sequences end to end, without padding: sequence `i` is `ids[bounds[i]..bounds[i + 1]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<i32>,
    bounds: Vec<usize>,
}

impl TokenBatch {
    /// A batch without sequences.
    pub fn new() -> Self {
        TokenBatch { ids: Vec::new(), bounds: vec![0] }
    }

    /// Appends one sequence.
    pub fn push(&mut self, ids: &[u32]) {
        if self.bounds.is_empty() {
            self.bounds.push(0);
        }
        self.ids.extend(ids.iter().map(|&id| id as i32));
        self.bounds.push(self.ids.len());
    }

    /// The number of sequences.
    pub fn rows(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// The tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The ids of all sequences, one sequence after the other. `[tokens]`
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// Where each sequence begins in [`ids`](TokenBatch::ids), then where the last one ends. `[rows + 1]`
    pub fn bounds(&self) -> &[usize] {
        &self.bounds
    }

    /// The ids of one sequence.
    pub fn row(&self, index: usize) -> &[i32] {
        &self.ids[self.bounds[index]..self.bounds[index + 1]]
    }

    /// The number of tokens of one sequence.
    pub fn length(&self, index: usize) -> usize {
        self.bounds[index + 1] - self.bounds[index]
    }

    /// The two halves of a batch that was too large for the device, or `None` for a single sequence.
    pub fn halves(&self) -> Option<(TokenBatch, TokenBatch)> {
        let middle = self.rows() / 2;
        if middle == 0 {
            return None;
        }
        let part = |rows: std::ops::Range<usize>| {
            let start = self.bounds[rows.start];
            TokenBatch {
                ids: self.ids[start..self.bounds[rows.end]].to_vec(),
                bounds: self.bounds[rows.start..=rows.end].iter().map(|bound| bound - start).collect(),
            }
        };
        Some((part(0..middle), part(middle..self.rows())))
    }
}

impl<'a> FromIterator<&'a [u32]> for TokenBatch {
    fn from_iter<I: IntoIterator<Item = &'a [u32]>>(rows: I) -> Self {
        let mut batch = TokenBatch::new();
        for ids in rows {
            batch.push(ids);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_once_within_the_budget(
            lengths in prop::collection::vec(0usize..300, 0..400),
            tokens in 1usize..2_000,
            rows in 1usize..50,
            padded in any::<bool>(),
        ) {
            let padding = if padded { PaddingMode::Padded } else { PaddingMode::Packed };
            let config = BatchConfig { tokens, rows };
            let batches = plan(&lengths, &config, padding);
            let mut seen: Vec<usize> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
            let in_order: Vec<usize> = seen.iter().map(|&row| lengths[row]).collect();
            prop_assert!(in_order.is_sorted_by(|a, b| a >= b));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert_eq!(batch.tokens, batch.rows.iter().map(|&row| lengths[row]).sum::<usize>());
                let longest = lengths[batch.rows[0]];
                let cost = if padded { batch.rows.len() * longest } else { batch.tokens };
                prop_assert!(cost <= tokens || batch.rows.len() == 1);
                prop_assert!(batch.rows.len() <= rows);
            }
        }

        #[test]
        fn halves_hold_the_same_rows(lengths in prop::collection::vec(0usize..9, 0..20)) {
            let rows: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| vec![i as u32; n]).collect();
            let batch: TokenBatch = rows.iter().map(Vec::as_slice).collect();
            if let Some((first, second)) = batch.halves() {
                let mut again: Vec<Vec<i32>> = (0..first.rows()).map(|i| first.row(i).to_vec()).collect();
                again.extend((0..second.rows()).map(|i| second.row(i).to_vec()));
                let whole: Vec<Vec<i32>> = (0..batch.rows()).map(|i| batch.row(i).to_vec()).collect();
                prop_assert_eq!(again, whole);
            } else {
                prop_assert!(batch.rows() < 2);
            }
        }
    }
}

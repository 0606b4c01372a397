//! The outcomes of a window's records.

use super::Stage;

/// Counts of a settled window. Each of its records was either published, dead-lettered, deleted or abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Records of the window.
    pub records: u64,
    /// Rows that were published.
    pub rows: u64,
    /// Records that went to the dead letters, by stage in the order of `Stage::ALL`.
    pub dead_letters: [u64; Stage::ALL.len()],
    /// Records that were published as deletes.
    pub deletes: u64,
    /// Records of partitions that were revoked: their new owner reads them again.
    pub abandoned: u64,
    /// Tokens of the published rows.
    pub tokens: u64,
    /// Published rows whose text was truncated.
    pub truncated_rows: u64,
    /// Tokens that truncation removed from them.
    pub truncated_tokens: u64,
    /// Bytes of the whole input up to the end of the window, as they lie on disk.
    pub input_bytes_read: u64,
}

impl Settled {
    /// No records.
    pub const NOTHING: Settled = Settled {
        records: 0,
        rows: 0,
        dead_letters: [0; Stage::ALL.len()],
        deletes: 0,
        abandoned: 0,
        tokens: 0,
        truncated_rows: 0,
        truncated_tokens: 0,
        input_bytes_read: 0,
    };

    /// Records whose rows were published.
    pub fn published(&self) -> u64 {
        self.records.saturating_sub(self.dead_lettered() + self.deletes + self.abandoned)
    }

    /// Records that went to the dead letters, of all stages.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_letters.iter().sum()
    }

    /// Adds the counts of a later window.
    pub fn add(&mut self, other: &Settled) {
        self.records += other.records;
        self.rows += other.rows;
        self.dead_letters.iter_mut().zip(other.dead_letters).for_each(|(sum, count)| *sum += count);
        self.deletes += other.deletes;
        self.abandoned += other.abandoned;
        self.tokens += other.tokens;
        self.truncated_rows += other.truncated_rows;
        self.truncated_tokens += other.truncated_tokens;
        self.input_bytes_read = other.input_bytes_read;
    }
}

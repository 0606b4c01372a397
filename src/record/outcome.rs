//! What became of a window.

use super::Stage;

/// What became of a window. Every record of it is in exactly one of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    pub records: u64,
    pub rows: u64,
    /// Records that went to the dead letters by stage, in the order of [`Stage::ALL`].
    pub dead_letters: [u64; Stage::ALL.len()],
    pub deletes: u64,
    /// Records of partitions that were taken away: whoever has them now reads them again.
    pub abandoned: u64,
    pub tokens: u64,
    pub truncated_rows: u64,
    pub truncated_tokens: u64,
    pub input_bytes_read: u64,
}

impl Settled {
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

    /// Records that are none of the others: their rows went out.
    pub fn published(&self) -> u64 {
        self.records.saturating_sub(self.dead_lettered() + self.deletes + self.abandoned)
    }

    /// Records that went to the dead letters, whatever the stage.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_letters.iter().sum()
    }

    /// Adds what became of a later window.
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

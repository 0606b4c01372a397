//! Rows ready to be encoded, in columns, and the records that they came from.

use std::sync::Arc;

use super::{Body, Partition, Position, Rejection, Timestamps};
use crate::budget::Permit;
use crate::columnar::{Columns, Strings, Tokens};

/// Consecutive records of one partition, and the rows made from them.
///
/// Invariant: `row_records` ascends, and `ids`, `hashes`, `tokens`, `kept` (and `texts`, if kept) have one entry per
/// row.
#[derive(Debug)]
pub struct Block {
    /// The partition of all records.
    pub partition: Arc<Partition>,
    /// The records.
    pub body: Body,
    /// For each row, the index in `body` of the record that it came from. A record may have any number of rows.
    pub row_records: Vec<usize>,
    /// The rows' ids.
    pub ids: Strings,
    /// The rows' texts; `None` if the output has no column of texts.
    pub texts: Option<Strings>,
    /// SHA-256 of each row's text.
    pub hashes: Vec<[u8; 32]>,
    /// The rows' tokens.
    pub tokens: Tokens,
    /// The rows' kept columns.
    pub kept: Columns,
    /// Records without rows, because they were rejected; ascending by record.
    pub rejected: Vec<Rejection>,
    /// Records that are deletes: their indexes in `body`, ascending.
    pub deletes: Vec<usize>,
    /// Bytes of the whole input up to the end of these records, as they lie on disk.
    pub input_bytes_read: u64,
    /// The share of the memory budget that the records hold; dropping it returns the share.
    pub permit: Permit,
    /// When the records reached which stage.
    pub timestamps: Timestamps,
}

impl Block {
    /// The number of records.
    pub fn records(&self) -> usize {
        self.body.len()
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row_records.len()
    }

    /// The position of a record, by its index in `body`.
    pub fn position(&self, record: usize) -> Position {
        Position { partition: self.partition.clone(), offset: self.body.offset(record) }
    }

    /// Keeps the first `at` records, with their rows and rejections, and returns the rest.
    pub fn split_off(&mut self, at: usize) -> Block {
        debug_assert!(at <= self.records(), "a block is split at one of its records");
        let row = self.row_records.partition_point(|&record| record < at);
        let rejection = self.rejected.partition_point(|rejection| rejection.record < at);
        let delete = self.deletes.partition_point(|&record| record < at);
        let tail_records = self.records() - at;
        let tail_bytes: usize = (at..self.records()).map(|record| self.body.bytes(record)).sum();
        Block {
            partition: self.partition.clone(),
            body: self.body.split_off(at),
            row_records: self.row_records.split_off(row).into_iter().map(|record| record - at).collect(),
            ids: self.ids.split_off(row),
            texts: self.texts.as_mut().map(|texts| texts.split_off(row)),
            hashes: self.hashes.split_off(row),
            tokens: self.tokens.split_off(row),
            kept: self.kept.split_off(row),
            rejected: self
                .rejected
                .split_off(rejection)
                .into_iter()
                .map(|rejection| Rejection { record: rejection.record - at, ..rejection })
                .collect(),
            deletes: self.deletes.split_off(delete).into_iter().map(|record| record - at).collect(),
            input_bytes_read: self.input_bytes_read,
            permit: self.permit.split(tail_records, tail_bytes),
            timestamps: self.timestamps,
        }
    }
}

//! Rows ready to be encoded, in columns, with the records that they came from.

use std::sync::Arc;

use super::{Body, Partition, Position, Rejection, Timestamps};
use crate::budget::Permit;
use crate::columnar::{Columns, Strings, Tokens};

/// Rows made of consecutive records of one partition, and those records.
///
/// Invariant: `row_records` ascends, and `ids`, `hashes`, `tokens`, `kept` (and `texts` where kept) have one entry a row.
#[derive(Debug)]
pub struct Block {
    pub partition: Arc<Partition>,
    pub body: Body,
    /// Row → index of the record in `body` that it came from.
    pub row_records: Vec<usize>,
    pub ids: Strings,
    /// The rows' texts; `None` where no output column wants them.
    pub texts: Option<Strings>,
    /// SHA-256 of each row's text.
    pub hashes: Vec<[u8; 32]>,
    pub tokens: Tokens,
    pub kept: Columns,
    pub rejected: Vec<Rejection>,
    /// Records that are deletes, by their index in `body`, ascending.
    pub deletes: Vec<usize>,
    pub input_bytes_read: u64,
    pub permit: Permit,
    pub times: Timestamps,
}

impl Block {
    pub fn records(&self) -> usize {
        self.body.len()
    }

    pub fn rows(&self) -> usize {
        self.row_records.len()
    }

    pub fn position(&self, record: usize) -> Position {
        Position { partition: self.partition.clone(), offset: self.body.offset(record) }
    }

    /// Keeps the first `at` records, with their rows and rejections, and returns the others.
    pub fn split_off(&mut self, at: usize) -> Block {
        debug_assert!(at <= self.records(), "a block is split inside");
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
            times: self.times,
        }
    }
}

//! A rejected record, as it is written to the dead letters.

use super::{Envelope, Position, Stage};

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record was read.
    pub position: Position,
    /// The stage that rejected it.
    pub stage: Stage,
    /// Why it was rejected.
    pub cause: String,
    /// The record as it was read; `None` for a delete, which has no value.
    pub raw: Option<bytes::Bytes>,
    /// The key, headers and timestamp of its message; `None` for other sources.
    pub envelope: Option<Envelope>,
}

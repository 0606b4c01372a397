//! A rejected record on its way to the dead letters.

use super::{Envelope, Position, Stage};

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub position: Position,
    pub stage: Stage,
    pub cause: String,
    /// The record as it came; a delete has no value.
    pub raw: Option<bytes::Bytes>,
    /// What came around it in its message; of other sources nothing.
    pub envelope: Option<Envelope>,
}

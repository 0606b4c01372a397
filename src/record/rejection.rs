//! Rejected records: the stage and the cause.

/// A record of a block that cannot become a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The record's index in its block.
    pub record: usize,
    /// The stage that rejected it.
    pub stage: Stage,
    /// Why it was rejected.
    pub cause: String,
}

/// The stage that rejected a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The source could not split or parse the record.
    Read,
    /// The record lacks a field, or a field has the wrong type.
    Extract,
    /// The text has no tokens that the model accepts.
    Tokenize,
    /// The embedding contains NaN or infinity.
    Encode,
    /// The sink cannot take the row, which is larger than a message of the topic may be.
    Publish,
}

impl Stage {
    /// All stages, in the order in which a record passes them.
    pub const ALL: [Stage; 5] = [Stage::Read, Stage::Extract, Stage::Tokenize, Stage::Encode, Stage::Publish];

    /// The stage's name, as dead letters, metrics and test files have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Extract => "extract",
            Stage::Tokenize => "tokenize",
            Stage::Encode => "encode",
            Stage::Publish => "publish",
        }
    }
}

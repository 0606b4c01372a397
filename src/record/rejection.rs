//! Why a record does not become a vector.

/// Why a record cannot become a vector, and where that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The record's index in its block.
    pub record: usize,
    pub stage: Stage,
    pub cause: String,
}

/// The stage that rejected a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Read,
    Extract,
    Tokenize,
    Encode,
    /// The sink cannot take the row: it is larger than a message of the topic may be.
    Publish,
}

impl Stage {
    /// In the order in which a record meets them.
    pub const ALL: [Stage; 5] = [Stage::Read, Stage::Extract, Stage::Tokenize, Stage::Encode, Stage::Publish];

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

//! Where a record stands: its partition, and its offset there.

use std::fmt;
use std::sync::Arc;

/// A sequence of records with an order of its own: a file, or a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// A file by the path that the user gave, or `-` for standard input; `ordinal` is its place among the inputs.
    File { ordinal: u32, path: String },
    /// A partition of a Kafka topic, as it was assigned at one time: `epoch` tells it from the same partition before it
    /// was revoked and given back.
    Topic { topic: Arc<str>, partition: i32, epoch: u64 },
    /// Records handed over in memory, by a number; tests use it.
    Memory(u32),
}

impl Partition {
    /// The value of the `source` column.
    pub fn name(&self) -> String {
        match self {
            Partition::File { path, .. } => path.clone(),
            Partition::Topic { topic, partition, .. } => format!("{topic}[{partition}]"),
            Partition::Memory(number) => format!("memory-{number}"),
        }
    }

    /// The partition's number, as files are named by it.
    pub fn ordinal(&self) -> u32 {
        match self {
            Partition::File { ordinal, .. } | Partition::Memory(ordinal) => *ordinal,
            Partition::Topic { partition, .. } => u32::try_from(*partition).unwrap_or(0),
        }
    }
}

/// One record's place: its partition and its number there, counted from 0.
///
/// For line formats the offset is the line's, blank lines included; it is shown as the line number that editors show,
/// counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub partition: Arc<Partition>,
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.partition {
            Partition::File { path, .. } => write!(f, "{path}:{}", self.offset + 1),
            Partition::Topic { topic, partition, .. } => write!(f, "{topic}[{partition}]@{}", self.offset),
            Partition::Memory(number) => write!(f, "memory-{number}@{}", self.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_files_read_as_an_editor_shows_them() {
        let position =
            Position { partition: Arc::new(Partition::File { ordinal: 0, path: "a.jsonl".into() }), offset: 16 };
        assert_eq!(position.to_string(), "a.jsonl:17");
    }
}

//! The position of a record: its partition, and its offset in that partition.

use std::fmt;
use std::sync::Arc;

/// An ordered sequence of records: a file, or a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// A file: its path as the user gave it, or `-` for standard input. `ordinal` is its index among the inputs.
    File {
        /// Its index among the inputs.
        ordinal: u32,
        /// Its path, as the user gave it.
        path: String,
    },
    /// One assignment of a partition of a Kafka topic. `epoch` distinguishes it from earlier assignments of the same
    /// partition that were revoked.
    Topic {
        /// The name of the topic.
        topic: Arc<str>,
        /// The number of the partition.
        partition: i32,
        /// The number of the assignment.
        epoch: u64,
    },
    /// Records in memory, identified by a number.
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

    /// The number of the partition; names of output files contain it.
    pub fn ordinal(&self) -> u32 {
        match self {
            Partition::File { ordinal, .. } | Partition::Memory(ordinal) => *ordinal,
            Partition::Topic { partition, .. } => u32::try_from(*partition).unwrap_or(0),
        }
    }
}

/// The position of one record. Offsets count from 0.
///
/// For formats with one record per line the offset counts lines, blank ones included. Shown to users it is the line
/// number of an editor, which counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition that contains the record.
    pub partition: Arc<Partition>,
    /// The number of the record in its partition.
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

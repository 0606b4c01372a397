//! Offsets that are committed, and what delivery asks of a source and a sink that keep them.

use super::assignment::{AssignmentGuard, TopicPartition};
use crate::failure::ClientError;
use crate::record::Partition;
use crate::window::Window;

/// For each partition, the offset of the next record to read.
pub type NextOffsets = [(TopicPartition, i64)];

/// A source that keeps its consumer group's offsets.
pub trait OffsetCommitter: Send {
    /// Keeps partitions from being revoked while a window is settled.
    fn lock(&self) -> AssignmentGuard<'_>;

    /// Commits offsets without waiting for the answer.
    fn commit(&self, offsets: &NextOffsets) -> Result<(), ClientError>;

    /// Commits whatever is settled, waits for it, and leaves the group.
    fn finish(self: Box<Self>) -> Result<(), ClientError>;
}

/// Rows, dead letters and how far the source has come as one, between `begin` and `commit`. `At` says how far.
pub trait Transaction<At: ?Sized>: Send {
    fn begin(&mut self) -> Result<(), ClientError>;
    fn commit(&mut self, at: &At) -> Result<(), ClientError>;
    /// Ends what `begin` began, and makes the next `begin` possible.
    fn abort(&mut self) -> Result<(), ClientError>;
}

/// For each block of the window, whether its partition is still assigned to this consumer.
pub(super) fn owned(window: &Window, assignment: &AssignmentGuard<'_>) -> Vec<bool> {
    window.blocks.iter().map(|block| assignment.owns(&block.partition)).collect()
}

/// For each partition of the window that is owned, the offset after the last record of its last block.
pub(super) fn next_offsets<'a>(window: &'a Window, owned: &[bool]) -> Vec<(&'a Partition, i64)> {
    let mut ends: Vec<(&Partition, i64)> = Vec::new();
    for (block, _) in window.blocks.iter().zip(owned).filter(|(_, owned)| **owned) {
        let next = block.body.offset(block.records() - 1) as i64 + 1;
        match ends.iter_mut().find(|(partition, _)| **partition == *block.partition) {
            Some((_, end)) => *end = next,
            None => ends.push((&block.partition, next)),
        }
    }
    ends
}

/// The same as the group knows them. A partition is owned under one epoch only, so none comes twice.
pub(super) fn of_group(ends: &[(&Partition, i64)]) -> Vec<(TopicPartition, i64)> {
    let topic_partition = |(partition, next): &(&Partition, i64)| match partition {
        Partition::Topic { topic, partition, .. } => Some(((topic.clone(), *partition), *next)),
        Partition::File { .. } | Partition::Memory(_) => None,
    };
    ends.iter().filter_map(topic_partition).collect()
}

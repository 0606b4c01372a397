//! The offsets of a window, and the interfaces of a source and a sink that store them.

use super::assignment::{AssignmentGuard, TopicPartition};
use crate::failure::ClientError;
use crate::record::Partition;
use crate::window::Window;

/// For each partition, the offset of the next record to read.
pub(crate) type NextOffsets = [(TopicPartition, i64)];

/// Commits the offsets of a consumer group.
pub(crate) trait OffsetCommitter: Send {
    /// Keeps partitions from being revoked while a window is settled.
    fn lock(&self) -> AssignmentGuard<'_>;

    /// Commits offsets without waiting for the answer.
    fn commit(&self, offsets: &NextOffsets) -> Result<(), ClientError>;

    /// Commits every settled offset, waits for the answer, and leaves the group.
    fn finish(self: Box<Self>) -> Result<(), ClientError>;
}

/// Makes everything written between `begin` and `commit` visible together with the source's progress, which `At` describes.
pub(crate) trait Transaction<At: ?Sized>: Send {
    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), ClientError>;
    /// Commits the transaction, with the source's progress in it.
    fn commit(&mut self, at: &At) -> Result<(), ClientError>;
    /// Aborts the transaction, so that the next `begin` can succeed.
    fn abort(&mut self) -> Result<(), ClientError>;
}

/// For each block of the window, whether its partition is still assigned to this consumer.
pub(super) fn owned_blocks(window: &Window, assignment: &AssignmentGuard<'_>) -> Vec<bool> {
    window.blocks.iter().map(|block| assignment.owns(&block.partition)).collect()
}

/// For each owned partition of the window, the offset after the last record of its last block.
pub(super) fn next_offsets<'a>(window: &'a Window, owned: &[bool]) -> Vec<(&'a Partition, i64)> {
    let mut offsets: Vec<(&Partition, i64)> = Vec::new();
    for (block, _) in window.blocks.iter().zip(owned).filter(|(_, owned)| **owned) {
        let next = block.body.offset(block.records() - 1) as i64 + 1;
        match offsets.iter_mut().find(|(partition, _)| **partition == *block.partition) {
            Some((_, offset)) => *offset = next,
            None => offsets.push((&block.partition, next)),
        }
    }
    offsets
}

/// The same offsets by topic and number, without the epochs. A partition is owned under one epoch at a time, so none of
/// them appears twice.
pub(super) fn group_offsets(offsets: &[(&Partition, i64)]) -> Vec<(TopicPartition, i64)> {
    let topic_partition = |(partition, next): &(&Partition, i64)| match partition {
        Partition::Topic { topic, partition, .. } => Some(((topic.clone(), *partition), *next)),
        Partition::File { .. } | Partition::Memory(_) => None,
    };
    offsets.iter().filter_map(topic_partition).collect()
}

//! Kafka to files: the rows of a partition are collected in a file, and its end is committed once the file is finished.
//!
//! The footer of the last finished file is the truth; the group's committed offsets only follow it. The sink and this
//! strategy share one [`PartitionFiles`].

use std::time::{Duration, Instant};

use super::assignment::AssignmentGuard;
use super::offsets::{group_offsets, owned_blocks};
use super::{Attempt, CommitStrategy, DeliveryError, OffsetCommitter};
use crate::record::{Partition, Settled};
use crate::sink::partition_files::{Ownership, PartitionFiles};

/// How often files are checked for being due: rarely enough to cost nothing, often enough for a revocation, which waits.
const MAINTAIN_EVERY: Duration = Duration::from_millis(200);

/// Commits the end of a file once it is finished.
pub(crate) struct CommittedFiles {
    pub committer: Box<dyn OffsetCommitter>,
    pub files: PartitionFiles,
}

impl CommittedFiles {
    /// Finishes the files that are due, or all of them if the run ends, and commits the offsets after them.
    fn finish_due(&self, assignment: &AssignmentGuard<'_>, at_end: bool) -> Result<(), DeliveryError> {
        let ownership = |partition: &Partition| match assignment.owns(partition) {
            false => Ownership::Lost,
            true if at_end || assignment.is_revoking(partition) => Ownership::Revoking,
            true => Ownership::Owned,
        };
        let finished = self.files.finish_due(Instant::now(), ownership)?;
        let offsets: Vec<(&Partition, i64)> = finished.iter().map(|(partition, next)| (&**partition, *next)).collect();
        self.committer.commit(&group_offsets(&offsets))?;
        offsets.iter().for_each(|(partition, next)| assignment.settle(partition, *next, false));
        Ok(())
    }
}

impl CommitStrategy for CommittedFiles {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let assignment = self.committer.lock();
        let settled = attempt.publish(&owned_blocks(&attempt.encoded.window, &assignment))?;
        attempt.flush_dead_letters()?;
        self.finish_due(&assignment, false)?;
        Ok(settled)
    }

    fn maintain_every(&self) -> Option<Duration> {
        Some(MAINTAIN_EVERY)
    }

    fn maintain(&mut self) -> Result<(), DeliveryError> {
        self.finish_due(&self.committer.lock(), false)
    }

    fn close(&mut self) -> Result<(), DeliveryError> {
        self.finish_due(&self.committer.lock(), true)
    }

    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        Ok(self.committer.finish()?)
    }
}

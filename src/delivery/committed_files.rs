//! Kafka to files: the rows of a partition are collected in a file. The offset to commit is read from the footer of the
//! last finished file; the group's offsets only follow. The sink and this strategy share one [`PartitionFiles`].

use std::time::{Duration, Instant};

use super::assignment::AssignmentGuard;
use super::offsets::{of_group, owned};
use super::{Attempt, CommitStrategy, DeliveryError, OffsetCommitter};
use crate::record::{Partition, Settled};
use crate::sink::partition_files::{Ownership, PartitionFiles};

/// How often files are looked at: rarely enough to cost nothing, often enough for a partition that is being revoked.
const MAINTAIN_EVERY: Duration = Duration::from_millis(200);

/// Commits the end of a file once it is finished.
pub struct CommittedFiles {
    pub committer: Box<dyn OffsetCommitter>,
    pub files: PartitionFiles,
}

impl CommittedFiles {
    /// Finishes the files that are due, all of them at the end, and commits where they end.
    fn finish_due(&self, assignment: &AssignmentGuard<'_>, at_end: bool) -> Result<(), DeliveryError> {
        let ownership = |partition: &Partition| match assignment.owns(partition) {
            false => Ownership::Lost,
            true if at_end || assignment.is_revoking(partition) => Ownership::Revoking,
            true => Ownership::Owned,
        };
        let ends = self.files.finish_due(Instant::now(), ownership)?;
        let ends: Vec<(&Partition, i64)> = ends.iter().map(|(partition, next)| (&**partition, *next)).collect();
        self.committer.commit(&of_group(&ends))?;
        ends.iter().for_each(|(partition, next)| assignment.settle(partition, *next, false));
        Ok(())
    }
}

impl CommitStrategy for CommittedFiles {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let assignment = self.committer.lock();
        let settled = attempt.publish(&owned(&attempt.encoded.window, &assignment))?;
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

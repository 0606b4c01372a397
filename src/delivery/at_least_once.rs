//! At least once: rows and dead letters become durable first, and only then are their offsets committed. After a crash
//! between the two, the window is read and published again.

use super::offsets::{group_offsets, next_offsets, owned_blocks};
use super::{Attempt, CommitStrategy, DeliveryError, OffsetCommitter};
use crate::record::Settled;

/// Commits a window's offsets once its rows are durable.
pub(crate) struct AtLeastOnce {
    pub committer: Box<dyn OffsetCommitter>,
}

impl CommitStrategy for AtLeastOnce {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let assignment = self.committer.lock();
        let owned = owned_blocks(&attempt.encoded.window, &assignment);
        let offsets = next_offsets(&attempt.encoded.window, &owned);
        let settled = attempt.publish(&owned)?;
        attempt.flush_sink()?;
        attempt.flush_dead_letters()?;
        self.committer.commit(&group_offsets(&offsets))?;
        offsets.iter().for_each(|(partition, next)| assignment.settle(partition, *next, false));
        Ok(settled)
    }

    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        Ok(self.committer.finish()?)
    }
}

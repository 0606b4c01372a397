//! Exactly once: the rows, dead letters and offsets of a window are one Kafka transaction, so a `read_committed` consumer
//! sees all of a window or nothing of it.

use super::offsets::{group_offsets, next_offsets, owned_blocks};
use super::{Attempt, CommitStrategy, DeliveryError, NextOffsets, OffsetCommitter, Transaction};
use crate::record::Settled;

/// Publishes each window and its offsets in one transaction.
pub(crate) struct ExactlyOnce {
    pub committer: Box<dyn OffsetCommitter>,
    pub transaction: Box<dyn Transaction<NextOffsets>>,
}

impl CommitStrategy for ExactlyOnce {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let assignment = self.committer.lock();
        let owned = owned_blocks(&attempt.encoded.window, &assignment);
        let offsets = next_offsets(&attempt.encoded.window, &owned);
        if offsets.is_empty() {
            // Nothing of the window is owned any more: nothing is written, and the records are counted as abandoned.
            return attempt.publish(&owned);
        }
        let settled = attempt.transact(&owned, self.transaction.as_mut(), group_offsets(&offsets).as_slice())?;
        offsets.iter().for_each(|(partition, next)| assignment.settle(partition, *next, true));
        Ok(settled)
    }

    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        // The producer is dropped before the consumer, whose group its transactions name.
        drop(self.transaction);
        Ok(self.committer.finish()?)
    }
}

//! Exactly once: rows, dead letters and offsets of a window are one Kafka transaction, so a `read_committed` consumer sees
//! all of a window or nothing.

use super::offsets::{next_offsets, of_group, owned};
use super::{Attempt, CommitStrategy, DeliveryError, NextOffsets, OffsetCommitter, Transaction};
use crate::record::Settled;

/// Publishes each window and its offsets in one transaction.
pub struct ExactlyOnce {
    pub committer: Box<dyn OffsetCommitter>,
    pub transaction: Box<dyn Transaction<NextOffsets>>,
}

impl CommitStrategy for ExactlyOnce {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let assignment = self.committer.lock();
        let owned = owned(&attempt.encoded.window, &assignment);
        let ends = next_offsets(&attempt.encoded.window, &owned);
        if ends.is_empty() {
            return attempt.publish(&owned);
        }
        let settled = attempt.transact(&owned, self.transaction.as_mut(), of_group(&ends).as_slice())?;
        ends.iter().for_each(|(partition, next)| assignment.settle(partition, *next, true));
        Ok(settled)
    }

    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        // The producer before the consumer: its transaction names the group that the consumer leaves.
        drop(self.transaction);
        Ok(self.committer.finish()?)
    }
}

//! Files to Kafka with a checkpoint: the rows of a window and the position of its last record are one transaction.

use super::{Attempt, CommitStrategy, DeliveryError, Transaction};
use crate::record::{Position, Settled};

/// Publishes each window in a transaction that also stores the position after which a later run resumes.
pub(crate) struct Checkpointed {
    pub checkpoint: Box<dyn Transaction<Position>>,
}

impl CommitStrategy for Checkpointed {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let owned = attempt.all_owned();
        match attempt.encoded.window.blocks.last() {
            Some(block) => attempt.transact(&owned, self.checkpoint.as_mut(), &block.position(block.records() - 1)),
            None => attempt.publish(&owned),
        }
    }
}

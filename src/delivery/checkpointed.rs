//! Files to Kafka with a checkpoint: the position of the last record of a window goes with its rows in one transaction.

use super::{Attempt, CommitStrategy, DeliveryError, Transaction};
use crate::record::{Position, Settled};

/// Publishes each window in a transaction that also holds the position that a later run resumes after.
pub struct Checkpointed {
    pub checkpoint: Box<dyn Transaction<Position>>,
}

impl CommitStrategy for Checkpointed {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let all = attempt.all();
        match attempt.encoded.window.blocks.last() {
            Some(block) => attempt.transact(&all, self.checkpoint.as_mut(), &block.position(block.records() - 1)),
            None => attempt.publish(&all),
        }
    }
}

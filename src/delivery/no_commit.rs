//! No offsets are kept: every run reads its whole input.

use super::{Attempt, CommitStrategy, DeliveryError};
use crate::record::Settled;

/// Publishes windows and commits nothing.
pub struct NoCommit;

impl CommitStrategy for NoCommit {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let settled = attempt.publish(&attempt.all_owned())?;
        attempt.flush_sink()?;
        Ok(settled)
    }
}

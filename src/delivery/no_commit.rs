//! The source keeps no offsets: a run begins at the beginning of its input.

use super::{Attempt, CommitStrategy, DeliveryError};
use crate::record::Settled;

/// Publishes windows and commits nothing.
pub struct NoCommit;

impl CommitStrategy for NoCommit {
    fn settle(&mut self, mut attempt: Attempt<'_>) -> Result<Settled, DeliveryError> {
        let settled = attempt.publish(&attempt.all())?;
        attempt.flush_sink()?;
        Ok(settled)
    }
}

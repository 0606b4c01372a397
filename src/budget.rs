//! The memory budget: bytes in flight between the source and the settled window.
//!
//! A source takes a [`Permit`] for what it has read before it hands it on; the permit travels with the records and comes
//! back when their window is settled. When the budget is used up, the source waits: that is the whole of backpressure.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be in flight at once.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(1, u32::MAX as usize);
        Budget { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget takes the whole budget: one record that
    /// is larger than it travels alone.
    pub async fn acquire(&self, bytes: usize) -> Permit {
        let wanted = bytes.clamp(1, self.bytes_max) as u32;
        let permit = self.bytes.clone().acquire_many_owned(wanted).await;
        Permit(Some(permit.expect("the budget is never closed")))
    }

    /// Bytes in flight now.
    pub fn in_flight(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug, Default)]
pub struct Permit(Option<OwnedSemaphorePermit>);

impl Permit {
    /// A permit for nothing, for records that no budget bounds.
    pub fn none() -> Self {
        Permit(None)
    }

    /// Splits `bytes` (or what there is) off into a permit of its own.
    pub fn split(&mut self, bytes: usize) -> Permit {
        Permit(self.0.as_mut().and_then(|permit| permit.split(bytes.min(permit.num_permits()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_split_comes_back_whole() {
        let budget = Budget::new(100);
        let mut whole = budget.acquire(60).await;
        let part = whole.split(25);
        assert_eq!(budget.in_flight(), 60);
        drop(whole);
        assert_eq!(budget.in_flight(), 25);
        drop(part);
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_record_over_the_whole_budget_travels_alone() {
        let budget = Budget::new(10);
        let giant = budget.acquire(1_000).await;
        assert_eq!(budget.in_flight(), 10);
        drop(giant);
    }
}

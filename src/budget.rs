//! The memory budget: a limit on the bytes in flight between the source and the settled window.
//!
//! A source acquires a [`Permit`] for the records that it has read before it sends them. The permit travels with the
//! records and is released when their window is settled. While the budget is used up, the source waits; there is no
//! other backpressure. A record costs its own bytes and those of the data derived from it, mostly its vector.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A budget of bytes in flight. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    /// Upper bound of one acquisition. Closed windows alone can always satisfy it; otherwise the open window, which
    /// waits for its next record, would deadlock the source.
    acquired_bytes_max: usize,
    record_overhead_bytes: usize,
}

impl Budget {
    /// A budget of `in_flight_bytes`, plus `open_window_bytes` for one open window: since the open window waits for its
    /// next record, that record must never wait for the open window's memory. `record_overhead_bytes` is what each
    /// record costs beyond its own bytes.
    pub fn new(in_flight_bytes: usize, open_window_bytes: usize, record_overhead_bytes: usize) -> Self {
        let acquired_bytes_max = in_flight_bytes.clamp(1, u32::MAX as usize);
        let bytes_max = acquired_bytes_max.saturating_add(open_window_bytes).min(Semaphore::MAX_PERMITS);
        Budget { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max, acquired_bytes_max, record_overhead_bytes }
    }

    /// Waits until the cost of `records` records of `bytes` bytes in total is available, and acquires it. A cost above
    /// the whole budget is reduced to the whole budget, so that even a huge record can pass.
    pub async fn acquire(&self, records: usize, bytes: usize) -> Permit {
        let cost = cost_bytes(records, bytes, self.record_overhead_bytes);
        let acquired = cost.clamp(1, self.acquired_bytes_max) as u32;
        let permit = self.bytes.clone().acquire_many_owned(acquired).await;
        let permit = Some(permit.expect("the budget is never closed"));
        Permit { permit, record_overhead_bytes: self.record_overhead_bytes }
    }

    /// The most bytes that can be in flight at once.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes in flight now.
    pub fn in_flight(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }
}

/// The cost of `records` records of `bytes` bytes in total.
fn cost_bytes(records: usize, bytes: usize, record_overhead_bytes: usize) -> usize {
    bytes.saturating_add(records.saturating_mul(record_overhead_bytes))
}

/// Bytes acquired from a [`Budget`]. Dropping the permit releases them.
#[derive(Debug, Default)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    record_overhead_bytes: usize,
}

impl Permit {
    /// A permit without bytes, for records that no budget limits.
    pub fn none() -> Self {
        Permit::default()
    }

    /// Splits off the cost of `records` records of `bytes` bytes in total, or all bytes if the permit has fewer.
    pub fn split(&mut self, records: usize, bytes: usize) -> Permit {
        let cost = cost_bytes(records, bytes, self.record_overhead_bytes);
        let split = self.permit.as_mut().and_then(|permit| permit.split(cost.min(permit.num_permits())));
        Permit { permit: split, record_overhead_bytes: self.record_overhead_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn split_permits_release_all_bytes() {
        let budget = Budget::new(100, 0, 10);
        let mut whole = budget.acquire(3, 30).await;
        assert_eq!(budget.in_flight(), 60);
        let part = whole.split(1, 15);
        assert_eq!(budget.in_flight(), 60);
        drop(whole);
        assert_eq!(budget.in_flight(), 25);
        drop(part);
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_cost_above_the_budget_still_fits_beside_an_open_window() {
        let budget = Budget::new(10, 5, 0);
        let open_window = budget.acquire(1, 5).await;
        let giant = budget.acquire(1, 1_000).await;
        assert_eq!(budget.in_flight(), 15);
        drop((open_window, giant));
    }
}

//! The memory budget: bytes in flight between the source and the settled window.
//!
//! A source takes a [`Permit`] for what it has read before it hands it on; the permit travels with the records and comes
//! back when their window is settled. When the budget is used up, the source waits: that is the whole of backpressure.
//! A record weighs its own bytes and what is made of it on the way, its vector above all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be in flight at once.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    /// The most that is taken at once; never more than comes back while a window is still open.
    taken_max: usize,
    record_overhead_bytes: usize,
}

impl Budget {
    /// `in_flight_bytes`, and the room for one open window besides: it waits for its next record, so that record must
    /// never wait for it. `record_overhead_bytes` is what each record weighs beyond its own bytes.
    pub fn new(in_flight_bytes: usize, open_window_bytes: usize, record_overhead_bytes: usize) -> Self {
        let taken_max = in_flight_bytes.clamp(1, u32::MAX as usize);
        let bytes_max = taken_max.saturating_add(open_window_bytes).min(Semaphore::MAX_PERMITS);
        Budget { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max, taken_max, record_overhead_bytes }
    }

    /// Waits until there is room for `records` records of `bytes` bytes together, and takes it. Records that weigh more
    /// than everything in flight may are counted as just that.
    pub async fn acquire(&self, records: usize, bytes: usize) -> Permit {
        let weight = weight(records, bytes, self.record_overhead_bytes);
        let wanted = weight.clamp(1, self.taken_max) as u32;
        let permit = self.bytes.clone().acquire_many_owned(wanted).await;
        let permit = Some(permit.expect("the budget is never closed"));
        Permit { permit, record_overhead_bytes: self.record_overhead_bytes }
    }

    /// Bytes that can be in flight at once.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes in flight now.
    pub fn in_flight(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }
}

fn weight(records: usize, bytes: usize, record_overhead_bytes: usize) -> usize {
    bytes.saturating_add(records.saturating_mul(record_overhead_bytes))
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug, Default)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    record_overhead_bytes: usize,
}

impl Permit {
    /// A permit for nothing, for records that no budget bounds.
    pub fn none() -> Self {
        Permit::default()
    }

    /// Splits what `records` records of `bytes` bytes together weigh (or what there is) off into a permit of its own.
    pub fn split(&mut self, records: usize, bytes: usize) -> Permit {
        let weight = weight(records, bytes, self.record_overhead_bytes);
        let part = self.permit.as_mut().and_then(|permit| permit.split(weight.min(permit.num_permits())));
        Permit { permit: part, record_overhead_bytes: self.record_overhead_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_split_comes_back_whole() {
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
    async fn what_weighs_more_than_may_be_in_flight_still_fits_beside_an_open_window() {
        let budget = Budget::new(10, 5, 0);
        let open_window = budget.acquire(1, 5).await;
        let giant = budget.acquire(1, 1_000).await;
        assert_eq!(budget.in_flight(), 15);
        drop((open_window, giant));
    }
}

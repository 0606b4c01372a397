//! Counters of the device workers: each worker writes its own, the status and the metrics read them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::device::Device;

/// The counters of one worker, written only by its own thread.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    batches: AtomicU64,
    rows: AtomicU64,
    tokens: AtomicU64,
    splits: AtomicU64,
    busy_ns: AtomicU64,
}

impl WorkerCounters {
    /// A batch spent the time `took` in the encoder. `encoded` is its number of rows and tokens, or `None` if it failed.
    pub fn batch(&self, took: Duration, encoded: Option<(usize, usize)>) {
        self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some((rows, tokens)) = encoded {
            self.batches.fetch_add(1, Relaxed);
            self.rows.fetch_add(rows as u64, Relaxed);
            self.tokens.fetch_add(tokens as u64, Relaxed);
        }
    }

    /// A batch was split because the device ran out of memory.
    pub fn split(&self) {
        self.splits.fetch_add(1, Relaxed);
    }
}

/// The totals of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceCounters {
    /// The worker's device.
    pub device: Device,
    /// Batches encoded without an error, counted as they were submitted (before any split).
    pub batches: u64,
    /// Rows of these batches.
    pub rows: u64,
    /// Tokens of these batches.
    pub tokens: u64,
    /// How often a batch was split because the device ran out of memory.
    pub splits: u64,
    /// Time inside the encoder. The worker is idle the rest of the time.
    pub busy: Duration,
}

/// A read-only view of a worker pool, for metrics and status.
#[derive(Clone)]
pub struct PoolWatch {
    queued: Arc<dyn Fn() -> usize + Send + Sync>,
    workers: Vec<(Device, Arc<WorkerCounters>)>,
}

impl PoolWatch {
    /// `queued` returns how many batches wait for a worker.
    pub fn new(
        queued: impl Fn() -> usize + Send + Sync + 'static,
        workers: impl IntoIterator<Item = (Device, Arc<WorkerCounters>)>,
    ) -> PoolWatch {
        PoolWatch { queued: Arc::new(queued), workers: workers.into_iter().collect() }
    }

    /// Batches that wait for a worker.
    pub fn queued(&self) -> usize {
        (self.queued)()
    }

    /// One entry per worker, in the order of the devices.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        let counters = |(device, counters): &(Device, Arc<WorkerCounters>)| DeviceCounters {
            device: *device,
            batches: counters.batches.load(Relaxed),
            rows: counters.rows.load(Relaxed),
            tokens: counters.tokens.load(Relaxed),
            splits: counters.splits.load(Relaxed),
            busy: Duration::from_nanos(counters.busy_ns.load(Relaxed)),
        };
        self.workers.iter().map(counters).collect()
    }
}

//! What a run is told from outside, how far it is, and how it ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::delivery::DeliveryError;
use crate::encode::EncodeError;
use crate::record::Settled;
use crate::sink::Written;
use crate::source::SourceError;

/// How far a run is; read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    pub records: AtomicU64,
    pub rows: AtomicU64,
    pub tokens: AtomicU64,
    pub dead_lettered: AtomicU64,
    pub input_bytes_read: AtomicU64,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Sums over all windows.
    pub settled: Settled,
    pub windows: u64,
    pub written: Vec<Written>,
    /// From the start of reading to the last file's rename.
    pub elapsed: Duration,
    /// Whether it stopped before the end of the source.
    pub drained: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    #[error("stopped before the end; nothing was left half-written")]
    Aborted,
    #[error(
        "stopping took longer than drain_ms, {} ms: what was read and is not published is given up, and nothing of it is \
         committed", .0.as_millis()
    )]
    DrainTooLong(Duration),
    #[error("a stage failed: {0}; please report this as a defect")]
    Defect(String),
}

impl From<JoinError> for RunError {
    fn from(error: JoinError) -> Self {
        RunError::Defect(error.to_string())
    }
}

/// The two ways to stop early.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Read no more, finish what was read.
    pub drain: CancellationToken,
    /// Give everything up.
    pub abort: CancellationToken,
}

impl Progress {
    /// Takes over the sums so far.
    pub(super) fn show(&self, sum: &Settled) {
        let set = |counter: &AtomicU64, value: u64| counter.store(value, Ordering::Relaxed);
        set(&self.records, sum.records);
        set(&self.rows, sum.rows);
        set(&self.tokens, sum.tokens);
        set(&self.dead_lettered, sum.dead_lettered());
        set(&self.input_bytes_read, sum.input_bytes_read);
    }
}

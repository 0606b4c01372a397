//! How a run is stopped, how far it is, and how it ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::delivery::DeliveryError;
use crate::encode::EncodeError;
use crate::record::Settled;
use crate::sink::Written;
use crate::source::SourceError;

/// Counts of the settled windows so far; other threads read them during the run.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records.
    pub records: AtomicU64,
    /// Rows that were published.
    pub rows: AtomicU64,
    /// Tokens of those rows.
    pub tokens: AtomicU64,
    /// Records that went to the dead letters.
    pub dead_lettered: AtomicU64,
    /// Bytes of the whole input, as they lie on disk.
    pub input_bytes_read: AtomicU64,
}

/// What a run has done.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Sums over all windows.
    pub settled: Settled,
    /// How many windows were settled.
    pub windows: u64,
    /// The finished files.
    pub written: Vec<Written>,
    /// The time from the start of reading to the rename of the last file.
    pub elapsed: Duration,
    /// Whether the run was drained before the end of the source.
    pub drained: bool,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source cannot continue.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A window cannot be published, or a record was rejected without dead letters.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The run was aborted.
    #[error("aborted before the end; no unfinished output remains")]
    Aborted,
    /// A drain took longer than this.
    #[error(
        "stopping took longer than drain_ms, {} ms: records that were read but not published are discarded, and their \
         offsets are not committed", .0.as_millis()
    )]
    DrainTooLong(Duration),
    /// A bug in embedmill.
    #[error("a stage failed: {0}; this is a bug (please report it at the project's issue tracker)")]
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
    /// Stop reading, and deliver what was read.
    pub drain: CancellationToken,
    /// Stop immediately, without delivering anything more.
    pub abort: CancellationToken,
}

impl Progress {
    /// Sets the counts to the sums so far.
    pub(super) fn show(&self, sum: &Settled) {
        let set = |counter: &AtomicU64, value: u64| counter.store(value, Ordering::Relaxed);
        set(&self.records, sum.records);
        set(&self.rows, sum.rows);
        set(&self.tokens, sum.tokens);
        set(&self.dead_lettered, sum.dead_lettered());
        set(&self.input_bytes_read, sum.input_bytes_read);
    }
}

//! Where records come from. A source reads in order, waits while the memory budget is used up, and stops when drained.

pub mod file;
pub mod memory;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::failure::Failure;
use crate::record::{Body, Partition, Records};

/// `source:` in the pipeline file: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Files, folders, globs, or standard input.
    pub files: Option<file::FilesConfig>,
}

/// Reads records on a thread of its own until its end, a drain, or an error.
pub trait Source: Send {
    /// Hands every record to `outlet`, partition by partition in order of offset. What cannot be cut into a record is
    /// handed on as [`crate::record::Payload::Unreadable`], never skipped.
    ///
    /// # Errors
    /// Only what makes going on impossible.
    fn run(self: Box<Self>, outlet: &mut Outlet) -> Result<(), SourceError>;
}

/// A source's way into the pipeline. Its methods block, so it is used on the source's own thread.
pub struct Outlet {
    runtime: Handle,
    records: mpsc::Sender<Records>,
    budget: Budget,
    drain: CancellationToken,
}

/// The pipeline takes no more: it is draining or has failed. The source returns `Ok` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Outlet {
    pub fn new(runtime: Handle, records: mpsc::Sender<Records>, budget: Budget, drain: CancellationToken) -> Self {
        Outlet { runtime, records, budget, drain }
    }

    /// Waits for the budget and hands the records on. `input_bytes_read` counts the whole input's bytes up to and with
    /// these records (compressed, as they lie on disk).
    ///
    /// # Errors
    /// [`Closed`] once the pipeline takes no more; these records are then not taken.
    pub fn send(&mut self, partition: &Arc<Partition>, body: Body, input_bytes_read: u64) -> Result<(), Closed> {
        let bytes = (0..body.len()).map(|index| body.bytes(index)).sum();
        let (records, budget, drain) = (&self.records, &self.budget, &self.drain);
        self.runtime.block_on(async {
            let permit = tokio::select! {
                biased;
                () = drain.cancelled() => return Err(Closed),
                permit = budget.acquire(bytes) => permit,
            };
            let records_out = Records { partition: partition.clone(), body, input_bytes_read, permit };
            tokio::select! {
                biased;
                () = drain.cancelled() => Err(Closed),
                sent = records.send(records_out) => sent.map_err(|_| Closed),
            }
        })
    }

    /// Whether the source should stop; for loops that read long without sending.
    pub fn is_closed(&self) -> bool {
        self.drain.is_cancelled() || self.records.is_closed()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{path}: cannot be read: {cause}")]
    Io { path: String, cause: std::io::Error },
    #[error("{path}: {message}")]
    Format { path: String, message: String },
    #[error("{message}")]
    Inputs { message: String },
}

impl SourceError {
    pub fn failure(&self) -> Failure {
        Failure::Fatal
    }
}

//! Where records come from. A source reads in order, waits while the memory budget is used up, and stops when drained.

pub mod file;
pub mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::failure::{ClientError, Failure};
use crate::record::{Body, Partition, Records, Timestamps};
use crate::telemetry::events;

/// Reads records on a thread of its own until its end, a drain, or an error.
pub trait Source: Send {
    /// Hands every record to `outlet`, partition by partition in order of offset. What cannot be cut into a record is
    /// handed on as [`crate::record::Payload::Unreadable`], never skipped.
    ///
    /// # Errors
    /// Only what makes going on impossible.
    fn run(self: Box<Self>, outlet: &mut RecordSender) -> Result<(), SourceError>;

    /// How long a drain may wait for it to return. It may sit in a read that nobody will answer.
    fn leave_max(&self) -> Duration {
        Duration::ZERO
    }
}

/// A source's way into the pipeline. Its methods block, so it is used on the source's own thread.
pub struct RecordSender {
    runtime: Handle,
    /// `None` once the source has said that there will be no more.
    records: Option<mpsc::Sender<Records>>,
    budget: Budget,
    drain: CancellationToken,
    over: CancellationToken,
}

/// The pipeline takes no more: it is draining or has failed. The source returns `Ok` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl RecordSender {
    /// `drain` asks the source to read no more; `over` says that nobody waits for anything any more.
    pub fn new(
        runtime: Handle,
        records: mpsc::Sender<Records>,
        budget: Budget,
        drain: CancellationToken,
        over: CancellationToken,
    ) -> Self {
        RecordSender { runtime, records: Some(records), budget, drain, over }
    }

    /// Waits for the budget and hands the records on. `input_bytes_read` counts the whole input's bytes up to and with
    /// these records (compressed, as they lie on disk).
    ///
    /// # Errors
    /// [`Closed`] once the pipeline takes no more; these records are then not taken.
    pub fn send(&mut self, partition: &Arc<Partition>, body: Body, input_bytes_read: u64) -> Result<(), Closed> {
        self.send_maintained(partition, body, input_bytes_read, Duration::MAX, &mut || true).map(drop)
    }

    /// As [`send`](RecordSender::send), for a source that must be looked after while it waits: `maintain` is called every `every`
    /// and says whether the records are still wanted. If not, they are let go and the answer is `Ok(false)`.
    pub fn send_maintained(
        &mut self,
        partition: &Arc<Partition>,
        body: Body,
        input_bytes_read: u64,
        every: Duration,
        maintain: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Closed> {
        let Some(sender) = &self.records else { return Err(Closed) };
        let bytes = (0..body.len()).map(|index| body.bytes(index)).sum();
        let rows = body.len();
        let began = Instant::now();
        let sent = async {
            let permit = self.budget.acquire(rows, bytes).await;
            let place = sender.reserve().await.map_err(|_| Closed)?;
            // Before they go: nobody may see records settled that were not read.
            events::records_read(rows, began.elapsed());
            let times = Timestamps::read(began, Instant::now());
            place.send(Records { partition: partition.clone(), body, input_bytes_read, permit, times });
            Ok(())
        };
        self.runtime.block_on(async {
            let mut sent = std::pin::pin!(sent);
            loop {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => return Err(Closed),
                    () = self.over.cancelled() => return Err(Closed),
                    sent = &mut sent => return sent.map(|()| true),
                    () = tokio::time::sleep(every), if every < Duration::MAX => {
                        if !maintain() {
                            return Ok(false);
                        }
                    }
                }
            }
        })
    }

    /// Says that there will be no more records; the source may go on for a while to look after what it has sent.
    pub fn end(&mut self) {
        self.records = None;
    }

    /// Whether the run is over: what was sent is settled, or never will be.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Whether the source should stop; for loops that read long without sending.
    pub fn is_closed(&self) -> bool {
        self.drain.is_cancelled()
            || self.over.is_cancelled()
            || self.records.as_ref().is_none_or(mpsc::Sender::is_closed)
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
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl SourceError {
    pub fn failure(&self) -> Failure {
        Failure::Fatal
    }
}

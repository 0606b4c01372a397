//! Where records come from.
//!
//! A [`Source`] reads records in order on a thread of its own and hands them to a [`RecordSender`], which waits while
//! the memory budget is used up. A drain stops the source; an error of the source ends the run.

pub(crate) mod file;
pub(crate) mod memory;

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
    /// Hands every record to `sender`, each partition's records in ascending order of offset. Bytes that cannot be
    /// split into a record are handed on as [`crate::record::Payload::Unreadable`], never skipped.
    ///
    /// # Errors
    /// Only if the source cannot continue: a failing disk or broker, not a bad record.
    fn run(self: Box<Self>, sender: &mut RecordSender) -> Result<(), SourceError>;

    /// How long a drain waits for `run` to return. Zero for a source that may block in a read for ever, such as one of
    /// standard input: the drain then leaves its thread behind.
    fn leave_max(&self) -> Duration {
        Duration::ZERO
    }
}

/// Hands a source's records to the pipeline. Its methods block, so only the source's own thread may call them.
pub struct RecordSender {
    runtime: Handle,
    /// `None` once the source has ended its records.
    records: Option<mpsc::Sender<Records>>,
    budget: Budget,
    drain: CancellationToken,
    over: CancellationToken,
}

/// The pipeline accepts no more records, because it is draining or has failed. The source then returns `Ok` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl RecordSender {
    /// `drain` asks the source to stop reading; `over` tells it that the run has ended and nothing is settled any more.
    pub fn new(
        runtime: Handle,
        records: mpsc::Sender<Records>,
        budget: Budget,
        drain: CancellationToken,
        over: CancellationToken,
    ) -> Self {
        RecordSender { runtime, records: Some(records), budget, drain, over }
    }

    /// Waits for the budget, then hands the records on. `input_bytes_read` counts the bytes of the whole input up to
    /// the end of these records, as they lie on disk (compressed).
    ///
    /// # Errors
    /// [`Closed`] if the pipeline accepts no more records; it has not taken these.
    pub fn send(&mut self, partition: &Arc<Partition>, body: Body, input_bytes_read: u64) -> Result<(), Closed> {
        self.send_maintained(partition, body, input_bytes_read, Duration::MAX, &mut || true).map(drop)
    }

    /// As [`send`](RecordSender::send), for a source with duties while it waits: `maintain` is called every `every` and
    /// returns whether the records are still wanted. If it returns false, the records are dropped and the result is
    /// `Ok(false)`.
    ///
    /// # Errors
    /// As [`send`](RecordSender::send).
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
        let records = body.len();
        let requested_at = Instant::now();
        let sent = async {
            let permit = self.budget.acquire(records, bytes).await;
            let slot = sender.reserve().await.map_err(|_| Closed)?;
            // Counted before they are sent, so that no observer sees more records settled than read.
            events::records_read(records, requested_at.elapsed());
            let timestamps = Timestamps::new(requested_at, Instant::now());
            slot.send(Records { partition: partition.clone(), body, input_bytes_read, permit, timestamps });
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

    /// Ends the records. The source may run on for a while to look after those that it has sent.
    pub fn end(&mut self) {
        self.records = None;
    }

    /// Whether the run is over: everything that was sent is settled, or never will be.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Whether the source should stop; for loops that read for long without sending.
    pub fn is_closed(&self) -> bool {
        self.drain.is_cancelled()
            || self.over.is_cancelled()
            || self.records.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

/// Why a source cannot be opened or cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system failed.
    #[error("{path}: cannot be read: {cause}")]
    Io {
        /// The input.
        path: String,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// An input has an unsupported format or compression.
    #[error("{path}: {message}")]
    Format {
        /// The input.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// `source.files` is wrong, or its paths lead to no input. `message` begins with the key or the path.
    #[error("{message}")]
    Inputs {
        /// What is wrong.
        message: String,
    },
    /// A client of another system failed, such as Kafka's.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl SourceError {
    /// Always fatal: a source retries by itself what can be retried.
    pub fn failure(&self) -> Failure {
        Failure::Fatal
    }
}

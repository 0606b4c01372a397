//! Makes windows durable: publishes their rows and dead letters in the order in which they were read, and then commits
//! their offsets.
//!
//! Delivery has a thread of its own and may block there. A rejected record goes to the dead letters; without a sink for
//! them, the first one stops the run before its window is written. A window whose publication fails is tried again for a
//! bounded time if that can help, and then stops the run: no later window is published in its place.
//!
//! A [`CommitStrategy`] decides when rows become visible and offsets are committed. Each one is a file:
//!
//! | strategy | a run starts | rows and offsets |
//! |---|---|---|
//! | [`NoCommit`] | at the beginning of its input | no offsets are kept |
//! | [`Checkpointed`] | after the last record that an earlier run has settled | one transaction per window |
//! | [`AtLeastOnce`] | at the group's committed offsets | rows become durable, then their offsets are committed |
//! | [`ExactlyOnce`] | at the group's committed offsets | one transaction per window |
//! | [`CommittedFiles`] | where the last finished file of a partition ends | a file is finished, then its end is committed |
//!
//! The blocks of a partition that was revoked in the meantime are abandoned: the partition's next owner reads them again.

pub(crate) mod assignment;
mod at_least_once;
mod attempt;
mod checkpointed;
mod committed_files;
mod exactly_once;
mod no_commit;
mod offsets;

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use at_least_once::AtLeastOnce;
pub(crate) use attempt::Attempt;
pub(crate) use checkpointed::Checkpointed;
pub(crate) use committed_files::CommittedFiles;
pub(crate) use exactly_once::ExactlyOnce;
pub use no_commit::NoCommit;
pub(crate) use offsets::{NextOffsets, OffsetCommitter, Transaction};

use crate::backoff::Backoff;
use crate::failure::{ClientError, Failure};
use crate::output::Output;
use crate::record::{DeadLetter, Position, Settled, Stage};
use crate::sink::{DeadLetterSink, Sink, SinkError, Written};
use crate::telemetry::events::{self, Settling};
use crate::telemetry::traces::WindowTrace;
use crate::window::Window;

/// `delivery:` in the pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryGuarantee {
    /// Rows are published, then offsets are committed: after a crash some rows are published again.
    #[default]
    AtLeastOnce,
    /// Rows and offsets are one Kafka transaction: a `read_committed` consumer sees every row once.
    ExactlyOnce,
}

/// A window with its rows, ready to be published.
#[derive(Debug)]
pub struct EncodedWindow {
    pub window: Window,
    /// The rows that got a vector, in source order.
    pub output: Output,
    /// The records that got none, in source order.
    pub rejected: Vec<DeadLetter>,
    pub trace: WindowTrace,
}

/// Why a window could not be settled.
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A record was rejected, and the pipeline has no output for dead letters.
    #[error("{position}: {cause} ({}; to continue without rejected records, {DEAD_LETTER_HINT})", stage.as_str())]
    Rejected { position: Position, stage: Stage, cause: String },
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Dead letters could not be written.
    #[error("{0}")]
    DeadLetter(SinkError),
    /// A client of the source or of the sink failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

const DEAD_LETTER_HINT: &str =
    "set --dead-letter FILE, `dead_letter: { path: FILE }`, or with Kafka `dead_letter: { topic: TOPIC }`";

/// A window is tried again for longer than a broker takes to restart or a group to rebalance. The first pause is short,
/// since most rebalances are over in a moment.
const RETRIES: Backoff = Backoff {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(5),
    give_up_after: Duration::from_secs(300),
};

impl DeliveryError {
    /// What the error means for the stream.
    pub fn failure(&self) -> Failure {
        match self {
            DeliveryError::Rejected { .. } => Failure::Poison,
            DeliveryError::Sink(error) | DeliveryError::DeadLetter(error) => error.failure(),
            DeliveryError::Client(error) => error.failure(),
        }
    }
}

/// Decides when a window's rows become visible, and when its offsets are committed.
pub trait CommitStrategy: Send {
    /// Publishes one window and commits its offsets. A failed attempt leaves nothing behind that would keep the next one
    /// from succeeding.
    fn settle(&mut self, attempt: Attempt<'_>) -> Result<Settled, DeliveryError>;

    /// How often [`maintain`](CommitStrategy::maintain) is to be called while no window arrives; `None` for never.
    fn maintain_every(&self) -> Option<Duration> {
        None
    }

    /// Does the work that is due by time rather than by windows.
    fn maintain(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Settles what is still incomplete, after the last window.
    fn close(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Called once the sink and the dead letters are finished: commits what is settled and not yet committed, and closes
    /// the consumer.
    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// The last stage, which owns the sink and the dead letters.
pub struct Delivery {
    sink: Box<dyn Sink>,
    dead_letters: Option<Box<dyn DeadLetterSink>>,
    strategy: Box<dyn CommitStrategy>,
    retries: Backoff,
}

impl Delivery {
    /// Without `dead_letters`, the first rejected record is an error.
    pub fn new(
        sink: Box<dyn Sink>,
        dead_letters: Option<Box<dyn DeadLetterSink>>,
        strategy: Box<dyn CommitStrategy>,
    ) -> Self {
        Delivery { sink, dead_letters, strategy, retries: RETRIES }
    }

    /// Replaces the default pauses between attempts.
    pub fn with_retries(self, retries: Backoff) -> Self {
        Delivery { retries, ..self }
    }

    /// See [`CommitStrategy::maintain_every`].
    pub fn maintain_every(&self) -> Option<Duration> {
        self.strategy.maintain_every()
    }

    /// See [`CommitStrategy::maintain`].
    pub fn maintain(&mut self) -> Result<(), DeliveryError> {
        self.strategy.maintain()
    }

    /// See [`CommitStrategy::close`].
    pub fn close(&mut self) -> Result<(), DeliveryError> {
        self.strategy.close()
    }

    /// Publishes one window, and releases its memory budget by dropping it. `pause` waits, and returns whether the run still
    /// continues.
    pub fn settle(
        &mut self,
        encoded: EncodedWindow,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<Settled, DeliveryError> {
        let started = Instant::now();
        let settling = Settling::begin(&encoded.window);
        let mut attempts = 0;
        loop {
            let began = Instant::now();
            let settled = self.strategy.settle(Attempt {
                sink: self.sink.as_mut(),
                dead_letters: self.dead_letters.as_deref_mut(),
                encoded: &encoded,
            });
            encoded.trace.tried(began, settled.as_ref().err().map(|error| error as _));
            let error = match settled {
                Ok(settled) => {
                    encoded.trace.settled(&settled);
                    settling.settled(&settled);
                    return Ok(settled);
                }
                Err(error) => error,
            };
            let wait = match error.failure() {
                Failure::Retry => self.retries.pause(attempts, started.elapsed()),
                Failure::Poison | Failure::Fatal => None,
            };
            let Some(wait) = wait else {
                encoded.trace.failed(&error);
                return Err(error);
            };
            events::publish_failed(&error);
            tracing::warn!(
                window = encoded.window.number, %error, wait_seconds = wait.as_secs_f64(), "publishing failed; trying again"
            );
            if !pause(wait) {
                encoded.trace.failed(&error);
                return Err(error);
            }
            attempts += 1;
        }
    }

    /// Makes everything that was published visible, and commits its offsets.
    pub fn finish(self) -> Result<Vec<Written>, DeliveryError> {
        // Dead letters go first: rows must not become visible while the records missing from them have left no trace.
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.finish().map_err(DeliveryError::DeadLetter)?;
        }
        let written = self.sink.finish()?;
        self.strategy.finish()?;
        Ok(written)
    }
}

//! How a window becomes durable: rows and dead letters out, in the order in which windows were read, then its offsets.
//!
//! Delivery has a thread of its own and may block there. A rejected record goes to the dead letters; without them the
//! first one stops the run before its window is written. A window that cannot be written is tried again where that can
//! help, for a bounded time, and then stops the run: nothing later is written in its place.
//!
//! What is promised of a window is a [`CommitStrategy`], one file each:
//!
//! | strategy | a run begins | rows and offsets |
//! |---|---|---|
//! | [`NoCommit`] | at the beginning of its input | no offsets are kept |
//! | [`Checkpointed`] | after the last record that an earlier run has settled | one transaction a window |
//! | [`AtLeastOnce`] | at the group's committed offsets | rows are durable, then their offsets are committed |
//! | [`ExactlyOnce`] | at the group's committed offsets | one transaction a window |
//! | [`CommittedFiles`] | where the last finished file of a partition ends | a file is finished, then its end is committed |
//!
//! Blocks of a partition that was revoked meanwhile are abandoned: the consumer that has the partition now reads them again.

pub mod assignment;
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

pub use at_least_once::AtLeastOnce;
pub use attempt::Attempt;
pub use checkpointed::Checkpointed;
pub use committed_files::CommittedFiles;
pub use exactly_once::ExactlyOnce;
pub use no_commit::NoCommit;
pub use offsets::{NextOffsets, OffsetCommitter, Transaction};

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
    /// Rows are published, then offsets are committed: after a crash some rows come again.
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
    /// Every record that did not, in source order.
    pub rejected: Vec<DeadLetter>,
    pub trace: WindowTrace,
}

/// Why a window could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{position}: {cause} ({}); to go on without such records, name a place for them: {DEAD_LETTER_HINT}", stage.as_str())]
    Rejected { position: Position, stage: Stage, cause: String },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{0}")]
    DeadLetter(SinkError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

const DEAD_LETTER_HINT: &str = "--dead-letter FILE, or `dead_letter: { path: FILE }`, or with Kafka `{ topic: TOPIC }`";

/// A window is tried again for longer than a broker takes to come back, or a group to rebalance; soon at first, since a
/// rebalance is over in a moment.
const RETRIES: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(5),
    give_up_after: Duration::from_secs(300),
};

impl DeliveryError {
    pub fn failure(&self) -> Failure {
        match self {
            DeliveryError::Rejected { .. } => Failure::Poison,
            DeliveryError::Sink(error) | DeliveryError::DeadLetter(error) => error.failure(),
            DeliveryError::Client(error) => error.failure(),
        }
    }
}

/// What is promised of a window: when its rows are visible, and when its offsets are committed.
pub trait CommitStrategy: Send {
    /// Publishes one window and commits its offsets. An attempt that fails leaves nothing behind that keeps the next one
    /// from succeeding.
    fn settle(&mut self, attempt: Attempt<'_>) -> Result<Settled, DeliveryError>;

    /// How often [`maintain`](CommitStrategy::maintain) wants to be called while there is no window; `None`: never.
    fn maintain_every(&self) -> Option<Duration> {
        None
    }

    /// Does what is due by time rather than by a window.
    fn maintain(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Settles what still waits to be whole; there will be no further window.
    fn close(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// The sink and the dead letters are finished: commits what is settled and not yet committed, and lets go of the source.
    fn finish(self: Box<Self>) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// The last stage: owns the sink and the dead letters.
pub struct Delivery {
    sink: Box<dyn Sink>,
    dead_letters: Option<Box<dyn DeadLetterSink>>,
    strategy: Box<dyn CommitStrategy>,
    retries: Backoff,
}

impl Delivery {
    pub fn new(
        sink: Box<dyn Sink>,
        dead_letters: Option<Box<dyn DeadLetterSink>>,
        strategy: Box<dyn CommitStrategy>,
    ) -> Self {
        Delivery { sink, dead_letters, strategy, retries: RETRIES }
    }

    /// With other pauses between attempts.
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

    /// Publishes one window. Its memory budget comes back when it is dropped here. `pause` waits, and says whether the
    /// run still goes on then.
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

    /// Makes everything that was published visible, and its offsets with it.
    pub fn finish(self) -> Result<Vec<Written>, DeliveryError> {
        // Dead letters first: rows must not appear while the records that they leave out have vanished without a trace.
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.finish().map_err(DeliveryError::DeadLetter)?;
        }
        let written = self.sink.finish()?;
        self.strategy.finish()?;
        Ok(written)
    }
}

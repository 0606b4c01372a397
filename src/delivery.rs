//! How a window becomes durable: rows and dead letters out, in the order in which windows were read, then its positions.
//!
//! Delivery has a thread of its own and may block there. A rejected record goes to the dead letters; without them the
//! first one stops the run before its window is written. A window that cannot be written is tried again where that can
//! help, for a bounded time, and then stops the run: nothing later is written in its place.
//!
//! Where the source commits positions: **at least once**, rows and dead letters are made durable and only then is their
//! position committed; **exactly once**, rows, dead letters and positions are one transaction, and whoever reads only
//! what is committed sees all of a window or nothing. **In files**, a partition's rows are collected in a file and its
//! positions committed when that is whole. Blocks of a partition that was taken away meanwhile are given up.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::columnar::output::Output;
use crate::dead_letter::{DeadLetter, DeadLetterSink};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::assignment::{Held, Key};
use crate::record::{Block, Partition, Position, Stage};
use crate::sink::partition_files::{Fate, PartitionFiles};
use crate::sink::{BlockRows, Sink, SinkError, WindowRows, Written};
use crate::telemetry::events::{self, Settling};
use crate::telemetry::traces::WindowTrace;
use crate::window::Window;

/// `delivery:` in the pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// Rows are published, then positions are committed: after a crash some rows come again.
    #[default]
    AtLeastOnce,
    /// Rows and positions are one Kafka transaction: a reader of committed data sees every row once.
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

/// What became of a window. Every record of it is in exactly one of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    pub records: u64,
    pub rows: u64,
    /// Records that went to the dead letters by stage, in the order of [`Stage::ALL`].
    pub dead_letters: [u64; Stage::ALL.len()],
    pub deletes: u64,
    /// Records of partitions that were taken away: whoever has them now reads them again.
    pub given_up: u64,
    pub tokens: u64,
    pub truncated_rows: u64,
    pub truncated_tokens: u64,
    pub input_bytes_read: u64,
}

impl Settled {
    pub const NOTHING: Settled = Settled {
        records: 0,
        rows: 0,
        dead_letters: [0; Stage::ALL.len()],
        deletes: 0,
        given_up: 0,
        tokens: 0,
        truncated_rows: 0,
        truncated_tokens: 0,
        input_bytes_read: 0,
    };

    /// Records that are none of the others: their rows went out.
    pub fn published(&self) -> u64 {
        self.records.saturating_sub(self.dead_lettered() + self.deletes + self.given_up)
    }

    /// Records that went to the dead letters, whatever the stage.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_letters.iter().sum()
    }

    /// Adds what became of a later window.
    pub fn add(&mut self, other: &Settled) {
        self.records += other.records;
        self.rows += other.rows;
        self.dead_letters.iter_mut().zip(other.dead_letters).for_each(|(sum, count)| *sum += count);
        self.deletes += other.deletes;
        self.given_up += other.given_up;
        self.tokens += other.tokens;
        self.truncated_rows += other.truncated_rows;
        self.truncated_tokens += other.truncated_tokens;
        self.input_bytes_read = other.input_bytes_read;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{position}: {cause} ({}); to go on without such records, name a place for them: {DEAD_LETTER_HINT}", stage.as_str())]
    Rejected { position: Position, stage: Stage, cause: String },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{0}")]
    DeadLetter(SinkError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

const DEAD_LETTER_HINT: &str = "--dead-letter FILE, or `dead_letter: { path: FILE }`, or with Kafka `{ topic: TOPIC }`";

/// A window is tried again for longer than a broker takes to come back, or a group to agree anew; soon at first, since a
/// rebalance is over in a moment.
const RETRIES: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(5),
    give_up_after: Duration::from_secs(300),
};
/// How often files are looked after: rarely enough to cost nothing, often enough for a partition that is to leave.
const TEND_EVERY: Duration = Duration::from_millis(200);

impl DeliveryError {
    pub fn failure(&self) -> Failure {
        match self {
            DeliveryError::Rejected { .. } => Failure::Poison,
            DeliveryError::Sink(error) | DeliveryError::DeadLetter(error) => error.failure(),
            DeliveryError::Kafka(error) => error.failure(),
        }
    }
}

/// A source that keeps the group's positions.
pub trait Commits: Send {
    /// Keeps partitions from being taken away while a window is settled.
    fn hold(&self) -> Held<'_>;

    /// Commits positions, each the offset of the next record, some time soon.
    fn commit(&self, ends: &Ends) -> Result<(), KafkaError>;

    /// Commits whatever is settled, waits for it, and leaves the group.
    fn finish(self: Box<Self>) -> Result<(), KafkaError>;
}

/// Rows, dead letters and how far the source has come as one, between `begin` and `commit`. `At` says how far.
pub trait Transaction<At: ?Sized>: Send {
    fn begin(&mut self) -> Result<(), KafkaError>;
    fn commit(&mut self, at: &At) -> Result<(), KafkaError>;
    /// Ends what `begin` began, and makes the next `begin` possible.
    fn abort(&mut self) -> Result<(), KafkaError>;
}

/// Where partitions go on: each the offset of the next record.
pub type Ends = [(Key, i64)];

/// What is promised of a window.
pub enum Guarantee {
    /// The source has no positions to commit: a run begins at the beginning.
    Whole,
    /// A run begins behind the last record that an earlier one has settled.
    Resumable(Box<dyn Transaction<Position>>),
    AtLeastOnce(Box<dyn Commits>),
    ExactlyOnce(Box<dyn Commits>, Box<dyn Transaction<Ends>>),
    /// Files tell where they end; the group's positions follow them. The sink is a view of the same files.
    InFiles(Box<dyn Commits>, PartitionFiles),
}

/// The end of the way: owns the sink and the dead letters.
pub struct Delivery {
    sink: Box<dyn Sink>,
    dead_letters: Option<Box<dyn DeadLetterSink>>,
    guarantee: Guarantee,
    retries: Backoff,
}

impl Delivery {
    pub fn new(sink: Box<dyn Sink>, dead_letters: Option<Box<dyn DeadLetterSink>>, guarantee: Guarantee) -> Self {
        Delivery { sink, dead_letters, guarantee, retries: RETRIES }
    }

    /// With other pauses between tries.
    pub fn with_retries(self, retries: Backoff) -> Self {
        Delivery { retries, ..self }
    }

    /// How often [`tend`](Delivery::tend) wants to be called while there is no window.
    pub fn tend_every(&self) -> Option<Duration> {
        matches!(self.guarantee, Guarantee::InFiles(..)).then_some(TEND_EVERY)
    }

    /// Finishes files that are old or whose partition leaves.
    pub fn tend(&mut self) -> Result<(), DeliveryError> {
        match &self.guarantee {
            Guarantee::InFiles(commits, files) => finish_due(commits.as_ref(), &commits.hold(), files, false),
            _ => Ok(()),
        }
    }

    /// Settles what still waits to be whole; there will be no further window.
    pub fn close(&mut self) -> Result<(), DeliveryError> {
        match &self.guarantee {
            Guarantee::InFiles(commits, files) => finish_due(commits.as_ref(), &commits.hold(), files, true),
            _ => Ok(()),
        }
    }

    /// Publishes one window. Its memory budget comes back when it is dropped here. `pause` waits, and says whether the
    /// run still goes on then.
    pub fn settle(
        &mut self,
        encoded: EncodedWindow,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<Settled, DeliveryError> {
        let started = Instant::now();
        let settling = Settling::begin(&encoded);
        for tried in 0.. {
            let began = Instant::now();
            let attempt = self.attempt(&encoded);
            encoded.trace.tried(began, attempt.as_ref().err().map(|error| error as _));
            let error = match attempt {
                Ok(settled) => {
                    encoded.trace.settled(&settled);
                    settling.settled(&settled);
                    return Ok(settled);
                }
                Err(error) if error.failure() == Failure::Retry => error,
                Err(error) => {
                    encoded.trace.failed(&error);
                    return Err(error);
                }
            };
            let Some(wait) = self.retries.pause(tried, started.elapsed()) else {
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
        }
        unreachable!("there are more tries than time")
    }

    fn attempt(&mut self, encoded: &EncodedWindow) -> Result<Settled, DeliveryError> {
        let Delivery { sink, dead_letters, guarantee, .. } = self;
        let every_window = matches!(guarantee, Guarantee::InFiles(..));
        let mut step = Step { sink: sink.as_mut(), dead_letters: dead_letters.as_deref_mut(), encoded, every_window };
        match guarantee {
            Guarantee::Whole => {
                let settled = step.publish(&vec![true; encoded.window.blocks.len()])?;
                step.sink.flush()?;
                Ok(settled)
            }
            Guarantee::Resumable(checkpoint) => {
                let all = vec![true; encoded.window.blocks.len()];
                match encoded.window.blocks.last() {
                    Some(block) => step.transact(&all, checkpoint.as_mut(), &block.position(block.records() - 1)),
                    None => step.publish(&all),
                }
            }
            Guarantee::InFiles(commits, files) => {
                let held = commits.hold();
                let settled = step.publish(&ours(&encoded.window, &held))?;
                step.flush_letters()?;
                finish_due(commits.as_ref(), &held, files, false)?;
                Ok(settled)
            }
            Guarantee::AtLeastOnce(commits) => {
                let held = commits.hold();
                let ours = ours(&encoded.window, &held);
                let ends = ends(&encoded.window, &ours);
                let settled = step.publish(&ours)?;
                step.sink.flush()?;
                step.flush_letters()?;
                commits.commit(&keys(&ends))?;
                ends.iter().for_each(|(partition, next)| held.settle(partition, *next, false));
                Ok(settled)
            }
            Guarantee::ExactlyOnce(commits, transaction) => {
                let held = commits.hold();
                let ours = ours(&encoded.window, &held);
                let ends = ends(&encoded.window, &ours);
                if ends.is_empty() {
                    return step.publish(&ours);
                }
                let settled = step.transact(&ours, transaction.as_mut(), keys(&ends).as_slice())?;
                ends.iter().for_each(|(partition, next)| held.settle(partition, *next, true));
                Ok(settled)
            }
        }
    }

    /// Makes everything that was published visible, and its positions with it.
    pub fn finish(self) -> Result<Vec<Written>, DeliveryError> {
        // Dead letters first: rows must not appear while the records they leave out have gone without a trace.
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.finish().map_err(DeliveryError::DeadLetter)?;
        }
        let written = self.sink.finish()?;
        match self.guarantee {
            Guarantee::Whole | Guarantee::Resumable(_) => {}
            Guarantee::AtLeastOnce(commits) | Guarantee::InFiles(commits, _) => commits.finish()?,
            Guarantee::ExactlyOnce(commits, transaction) => {
                drop(transaction);
                commits.finish()?;
            }
        }
        Ok(written)
    }
}

/// Finishes the files that are due, all of them at the end, and commits where they end.
fn finish_due(
    commits: &dyn Commits,
    held: &Held<'_>,
    files: &PartitionFiles,
    at_end: bool,
) -> Result<(), DeliveryError> {
    let fate = |partition: &Partition| match held.owns(partition) {
        false => Fate::Gone,
        true if at_end || held.is_leaving(partition) => Fate::Leaves,
        true => Fate::Stays,
    };
    let ends = files.finish_due(Instant::now(), fate)?;
    let ends: Vec<(&Partition, i64)> = ends.iter().map(|(partition, next)| (&**partition, *next)).collect();
    commits.commit(&keys(&ends))?;
    ends.iter().for_each(|(partition, next)| held.settle(partition, *next, false));
    Ok(())
}

/// One try at one window.
struct Step<'a> {
    sink: &'a mut dyn Sink,
    dead_letters: Option<&'a mut (dyn DeadLetterSink + 'static)>,
    encoded: &'a EncodedWindow,
    /// Whether the sink is to know of windows without rows too.
    every_window: bool,
}

impl Step<'_> {
    /// Publishes as one transaction, up to `at`; what fails is aborted.
    fn transact<At: ?Sized>(
        &mut self,
        ours: &[bool],
        transaction: &mut dyn Transaction<At>,
        at: &At,
    ) -> Result<Settled, DeliveryError> {
        let began = Instant::now();
        transaction.begin()?;
        let committed = self.publish(ours).and_then(|settled| {
            transaction.commit(at)?;
            Ok(settled)
        });
        events::transaction_ended(began, committed.is_ok());
        if committed.is_err() {
            transaction.abort()?;
        }
        committed
    }

    /// Writes the rows and the dead letters of the blocks that are `ours`.
    fn publish(&mut self, ours: &[bool]) -> Result<Settled, DeliveryError> {
        let EncodedWindow { window, output, rejected, trace } = self.encoded;
        let has_deletes = || window.blocks.iter().any(|block| !block.deletes.is_empty());
        let rows = WindowRows { window, output, ours, traceparent: trace.traceparent() };
        let kept = |letter: &&DeadLetter| rows.blocks().any(|rows| rows.is_ours && holds(rows.block, &letter.position));
        let rejected: Vec<&DeadLetter> = rejected.iter().filter(kept).collect();
        self.write_letters(&rejected)?;
        let mut too_large = Vec::new();
        if self.every_window || output.rows() > 0 || has_deletes() {
            too_large = self.sink.write(&rows)?;
            self.write_letters(&too_large.iter().collect::<Vec<_>>())?;
        }
        let mut settled = Settled { input_bytes_read: window.input_bytes_read(), ..Default::default() };
        for BlockRows { block, is_ours, output, .. } in rows.blocks() {
            settled.records += block.records() as u64;
            if !is_ours {
                settled.given_up += block.records() as u64;
                continue;
            }
            settled.deletes += block.deletes.len() as u64;
            settled.rows += output.len() as u64;
            for row in 0..block.rows() {
                let truncated = u64::from(block.tokens.truncated(row));
                settled.tokens += block.tokens.ids(row).len() as u64;
                settled.truncated_tokens += truncated;
                settled.truncated_rows += u64::from(truncated > 0);
            }
        }
        settled.rows -= too_large.len() as u64;
        for letter in rejected.into_iter().chain(&too_large) {
            settled.dead_letters[letter.stage as usize] += 1;
        }
        trace.published();
        Ok(settled)
    }

    fn flush_letters(&mut self) -> Result<(), DeliveryError> {
        self.dead_letters.as_mut().map_or(Ok(()), |letters| letters.flush()).map_err(DeliveryError::DeadLetter)
    }

    fn write_letters(&mut self, letters: &[&DeadLetter]) -> Result<(), DeliveryError> {
        match (&mut self.dead_letters, letters) {
            (_, []) => Ok(()),
            (Some(dead_letters), letters) => {
                letters.iter().try_for_each(|letter| dead_letters.write(letter)).map_err(DeliveryError::DeadLetter)
            }
            (None, [first, ..]) => {
                let DeadLetter { position, stage, cause, .. } = (*first).clone();
                Err(DeliveryError::Rejected { position, stage, cause })
            }
        }
    }
}

fn holds(block: &Block, position: &Position) -> bool {
    let offsets = block.body.offset(0)..=block.body.offset(block.records() - 1);
    *block.partition == *position.partition && offsets.contains(&position.offset)
}

/// Of each block, whether its partition is still ours.
fn ours(window: &Window, held: &Held<'_>) -> Vec<bool> {
    window.blocks.iter().map(|block| held.owns(&block.partition)).collect()
}

/// Where each partition of the window that is ours goes on: the offset after the last record of its last block.
fn ends<'a>(window: &'a Window, ours: &[bool]) -> Vec<(&'a Partition, i64)> {
    let mut ends: Vec<(&Partition, i64)> = Vec::new();
    for (block, _) in window.blocks.iter().zip(ours).filter(|(_, ours)| **ours) {
        let next = block.body.offset(block.records() - 1) as i64 + 1;
        match ends.iter_mut().find(|(partition, _)| **partition == *block.partition) {
            Some((_, end)) => *end = next,
            None => ends.push((&block.partition, next)),
        }
    }
    ends
}

/// The same as the group knows them. A partition is ours under one epoch only, so none comes twice.
fn keys(ends: &[(&Partition, i64)]) -> Vec<(Key, i64)> {
    let key = |(partition, next): &(&Partition, i64)| match partition {
        Partition::Topic { topic, partition, .. } => Some(((topic.clone(), *partition), *next)),
        Partition::File { .. } | Partition::Memory(_) => None,
    };
    ends.iter().filter_map(key).collect()
}

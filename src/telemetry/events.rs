//! What the stages say of their work, an event a function: it updates the metrics and the live state together.
//!
//! Each is called once a run of records, a window, a batch or less often, never once a record. What is counted of a
//! window is counted when it is settled, once, whatever tries came before: the counters add up.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::live::{LIVE, Part, Running};
use super::names;
use super::workers::PoolWatch;
use crate::batch::{BatchConfig, BatchPlan};
use crate::budget::Budget;
use crate::device::Device;
use crate::record::Settled;
use crate::record::{Block, Partition, Stage};
use crate::window::Window;

// ---------------------------------------------------------------------------------------------------------------------
// The run

/// The model is there; `provenance` is what its vectors' schema says of it.
pub fn model_loaded(shown: String, provenance: &[(&str, String)]) {
    let value = |key: &str| provenance.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value.as_str());
    let labels = [value("model_id"), value("model_revision"), value("dim"), value("precision")];
    names::MODEL_INFO.set(1.0, &labels);
    LIVE.lock().model = Some(shown);
}

/// The pipeline runs, from here on with these.
pub fn running(budget: Budget, pool: PoolWatch, drain: CancellationToken) {
    // From the start, so that a device that never gets anything to do is seen to be idle.
    for (worker, counters) in pool.counters().iter().enumerate() {
        let labels = [counters.device.to_string(), worker.to_string()];
        names::ENCODE.begin(&[&labels[0], &labels[1]]);
        names::SPLITS.add(0, &[&labels[0], &labels[1]]);
    }
    LIVE.lock().running = Some(Running { budget, pool, drain });
}

// ---------------------------------------------------------------------------------------------------------------------
// The way of the data

/// A run of records went into the pipeline after it `waited` for room.
pub fn records_read(records: usize, waited: Duration) {
    LIVE.records_read.fetch_add(records as u64, Relaxed);
    names::RECORDS_READ.add(records as u64, &[]);
    names::SOURCE_WAIT.record(waited.as_secs_f64(), &[]);
}

/// A run of records was extracted and tokenised.
pub fn block_prepared(took: Duration) {
    names::PREPARE.record(took.as_secs_f64(), &[]);
}

/// A window got no more records, and its batches go to the devices.
pub fn window_closed(window: &Window, batches: &[BatchPlan], config: &BatchConfig) {
    LIVE.windows_closed.fetch_add(1, Relaxed);
    names::WINDOWS.add(1, &[window.closed.as_str()]);
    for batch in batches {
        names::BATCHES.add(1, &[batch.closed.as_str()]);
        names::BATCH_FILL.record(batch.tokens as f64 / config.tokens as f64, &[]);
    }
}

/// A device has encoded a batch.
pub fn batch_encoded(device: Device, worker: usize, took: Duration) {
    if names::are_recorded() {
        names::ENCODE.record(took.as_secs_f64(), &[&device.to_string(), &worker.to_string()]);
    }
}

/// A device's memory did not hold a batch.
pub fn batch_split(device: Device, worker: usize) {
    if names::are_recorded() {
        names::SPLITS.add(1, &[&device.to_string(), &worker.to_string()]);
    }
}

/// What is to be known of a window once it is settled, and gone.
pub struct Settling {
    began: Instant,
    opened: Instant,
    /// Of the first record and of the last, milliseconds since 1970.
    timestamps_ms: [Option<i64>; 2],
    /// Partitions and the offsets that they go on at.
    next: Vec<(String, u64)>,
}

impl Settling {
    /// A window is about to be published.
    pub fn begin(window: &Window) -> Settling {
        let timestamp = |record: Option<(usize, usize)>| {
            let (block, record) = record?;
            window.blocks[block].body.envelope(record)?.timestamp_ms.filter(|ms| *ms > 0)
        };
        let first = window.blocks.iter().position(|block| block.records() > 0).map(|block| (block, 0));
        let last = window.blocks.iter().rposition(|block| block.records() > 0);
        let last = last.map(|block| (block, window.blocks[block].records() - 1));
        let mut next: Vec<(String, u64)> = Vec::new();
        // Of topics, the client's statistics tell, and the assignment: a window in an open file is not committed yet.
        let of_files = |block: &&Block| block.records() > 0 && !matches!(*block.partition, Partition::Topic { .. });
        for block in window.blocks.iter().filter(of_files) {
            let (name, end) = (block.partition.name(), block.body.offset(block.records() - 1) + 1);
            match next.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = end,
                None => next.push((name, end)),
            }
        }
        Settling {
            began: Instant::now(),
            opened: window.opened,
            timestamps_ms: [timestamp(first), timestamp(last)],
            next,
        }
    }

    /// It is published and committed, or given up.
    pub fn settled(self, settled: &Settled) {
        let Settled { records, rows, deletes, abandoned, tokens, truncated_rows, truncated_tokens, .. } = *settled;
        LIVE.windows_settled.fetch_add(1, Relaxed);
        names::WINDOWS_SETTLED.add(1, &[]);
        for (stage, count) in Stage::ALL.iter().zip(settled.dead_letters).filter(|(_, count)| *count > 0) {
            names::DEAD_LETTERS.add(count, &[stage.as_str()]);
        }
        names::ROWS.add(rows, &[]);
        names::TOKENS.add(tokens, &[]);
        names::TRUNCATED_ROWS.add(truncated_rows, &[]);
        names::TRUNCATED_TOKENS.add(truncated_tokens, &[]);
        names::PUBLISH.record(self.began.elapsed().as_secs_f64(), &[]);
        if abandoned < records {
            let age = self.opened.elapsed().as_secs_f64();
            names::WINDOW_AGE.record(age, &[]);
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
            for timestamp_ms in self.timestamps_ms {
                // A producer's clock may be ahead of ours.
                let since = timestamp_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1_000.0);
                names::LATENCY.record(since.unwrap_or(age), &[]);
            }
        }
        // Last: whoever sees these sees the rest.
        names::RECORDS.add(settled.published(), &["published"]);
        names::RECORDS.add(settled.dead_lettered(), &["dead_lettered"]);
        names::RECORDS.add(deletes, &["deleted"]);
        names::RECORDS.add(abandoned, &["abandoned"]);
        let mut state = LIVE.lock();
        state.settled.add(settled);
        state.well(Part::Sink);
        if abandoned == 0 {
            self.next.iter().for_each(|(partition, next)| state.partitions.note(partition, Some(*next), None));
        }
    }
}

/// A window could not be published and will be tried again.
pub fn publish_failed(error: &dyn std::error::Error) {
    names::PUBLISH_RETRIES.add(1, &[]);
    LIVE.trouble(Part::Sink, error.to_string());
}

/// None of the sink's brokers can be reached; the next window that is published says otherwise.
pub fn sink_unreachable(reason: &str) {
    LIVE.trouble(Part::Sink, reason);
}

// ---------------------------------------------------------------------------------------------------------------------
// Kafka

/// The source is about to ask the group for partitions.
pub fn group_joining(group: &str) {
    LIVE.trouble(Part::Assignment, format!("group {group} has not assigned partitions to this member yet"));
}

/// Partitions came, none too; `all` are ours now.
pub fn partitions_assigned(all: usize) {
    names::REBALANCES.add(1, &["assigned"]);
    names::ASSIGNED.set(all as f64, &[]);
    LIVE.well(Part::Assignment);
}

/// Partitions went, `lost` to others already; `left` are still ours.
pub fn partitions_revoked<'a>(gone: impl Iterator<Item = (&'a str, i32)>, lost: bool, left: usize) {
    names::REBALANCES.add(1, &[if lost { "lost" } else { "revoked" }]);
    names::ASSIGNED.set(left as f64, &[]);
    let mut state = LIVE.lock();
    for (topic, partition) in gone {
        names::LAG.set(0.0, &[topic, &partition.to_string()]);
        state.partitions.forget(&name(topic, partition));
    }
}

pub fn rebalance_failed() {
    names::REBALANCES.add(1, &["failed"]);
}

/// A partition of ours goes on at `next` and ends at `end`.
pub fn partition_seen(topic: &str, partition: i32, next: Option<i64>, end: i64) {
    let (next, end) = (next.and_then(|next| u64::try_from(next).ok()), u64::try_from(end).ok());
    LIVE.lock().partitions.note(&name(topic, partition), next, end);
    if let (Some(next), Some(end)) = (next, end) {
        names::LAG.set(end.saturating_sub(next) as f64, &[topic, &partition.to_string()]);
    }
}

fn name(topic: &str, partition: i32) -> String {
    Partition::Topic { topic: topic.into(), partition, epoch: 0 }.name()
}

/// Whether any broker of the source can be reached.
pub fn brokers_seen(any: bool) {
    match any {
        true => LIVE.well(Part::Source),
        false => LIVE.trouble(Part::Source, "no broker can be reached"),
    }
}

/// Positions were committed outside a transaction.
pub fn committed(is_ok: bool) {
    names::COMMITS.add(1, &[if is_ok { "ok" } else { "failed" }]);
}

/// A transaction that was begun then has ended.
pub fn transaction_ended(began: Instant, is_committed: bool) {
    names::TRANSACTIONS.add(1, &[if is_committed { "committed" } else { "aborted" }]);
    names::TRANSACTION.record(began.elapsed().as_secs_f64(), &[]);
}

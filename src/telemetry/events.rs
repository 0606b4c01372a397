//! The events that stages report. Each function updates the metrics and the live state together.
//!
//! Events are reported per block of records, per window, per batch or less often, but never per record. The counts of a
//! window are added once, when the window is settled, no matter how many attempts failed before; so the counters add up.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::live::{Component, LIVE, Running};
use super::names;
use super::workers::PoolWatch;
use crate::batch::{BatchConfig, BatchPlan};
use crate::budget::Budget;
use crate::device::Device;
use crate::record::{Block, Partition, Settled, Stage};
use crate::window::Window;

// ---------------------------------------------------------------------------------------------------------------------
// The run

/// The model is loaded. `description` is one line for people, `provenance` the metadata that its output files carry.
pub(crate) fn model_loaded(description: String, provenance: &[(&str, String)]) {
    let value = |key: &str| provenance.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value.as_str());
    let labels = [value("model_id"), value("model_revision"), value("dim"), value("precision")];
    names::MODEL_INFO.set(1.0, &labels);
    LIVE.lock().model = Some(description);
}

/// All stages are running. From now on the run is ready unless a component reports otherwise.
pub(crate) fn running(budget: Budget, pool: PoolWatch, drain: CancellationToken) {
    // Exported from the start, so that a device without work shows up as idle.
    for (worker, counters) in pool.counters().iter().enumerate() {
        let labels = [counters.device.to_string(), worker.to_string()];
        names::ENCODE.init(&[&labels[0], &labels[1]]);
        names::SPLITS.add(0, &[&labels[0], &labels[1]]);
    }
    LIVE.lock().running = Some(Running { budget, pool, drain });
}

// ---------------------------------------------------------------------------------------------------------------------
// Records, windows and batches

/// The source handed a block of records to the pipeline after it `waited` for free capacity.
pub(crate) fn records_read(records: usize, waited: Duration) {
    LIVE.records_read.fetch_add(records as u64, Relaxed);
    names::RECORDS_READ.add(records as u64, &[]);
    names::SOURCE_WAIT.record(waited.as_secs_f64(), &[]);
}

/// A block of records was extracted and tokenized.
pub(crate) fn block_prepared(took: Duration) {
    names::PREPARE.record(took.as_secs_f64(), &[]);
}

/// A window was closed, and its batches are about to be queued for the devices.
pub(crate) fn window_closed(window: &Window, batches: &[BatchPlan], config: &BatchConfig) {
    LIVE.windows_closed.fetch_add(1, Relaxed);
    names::WINDOWS.add(1, &[window.closed.as_str()]);
    for batch in batches {
        names::BATCHES.add(1, &[batch.closed.as_str()]);
        names::BATCH_FILL.record(batch.tokens as f64 / config.tokens as f64, &[]);
    }
}

/// A worker encoded a batch.
pub(crate) fn batch_encoded(device: Device, worker: usize, took: Duration) {
    if names::is_recording() {
        names::ENCODE.record(took.as_secs_f64(), &[&device.to_string(), &worker.to_string()]);
    }
}

/// A batch was split because the device ran out of memory.
pub(crate) fn batch_split(device: Device, worker: usize) {
    if names::is_recording() {
        names::SPLITS.add(1, &[&device.to_string(), &worker.to_string()]);
    }
}

/// What [`Settling::settled`] needs of a window that no longer exists by then.
pub(crate) struct Settling {
    began: Instant,
    opened: Instant,
    /// Timestamps of the first and the last record, in milliseconds since 1970.
    timestamps_ms: [Option<i64>; 2],
    /// Names of file partitions, and the offset of the next record of each.
    next_offsets: Vec<(String, u64)>,
}

impl Settling {
    /// A window is about to be published.
    pub(crate) fn begin(window: &Window) -> Settling {
        let timestamp = |record: Option<(usize, usize)>| {
            let (block, record) = record?;
            window.blocks[block].body.envelope(record)?.timestamp_ms.filter(|ms| *ms > 0)
        };
        let first = window.blocks.iter().position(|block| block.records() > 0).map(|block| (block, 0));
        let last = window.blocks.iter().rposition(|block| block.records() > 0);
        let last = last.map(|block| (block, window.blocks[block].records() - 1));
        let mut next_offsets: Vec<(String, u64)> = Vec::new();
        // Progress of topics comes from the Kafka client instead: a window that lies in an unfinished file is settled but
        // not yet committed.
        let of_files = |block: &&Block| block.records() > 0 && !matches!(*block.partition, Partition::Topic { .. });
        for block in window.blocks.iter().filter(of_files) {
            let (name, end) = (block.partition.name(), block.body.offset(block.records() - 1) + 1);
            match next_offsets.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = end,
                None => next_offsets.push((name, end)),
            }
        }
        Settling {
            began: Instant::now(),
            opened: window.opened,
            timestamps_ms: [timestamp(first), timestamp(last)],
            next_offsets,
        }
    }

    /// The window is published and committed, or abandoned.
    pub(crate) fn settled(self, settled: &Settled) {
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
                // The producer's clock may be ahead of this machine's.
                let since = timestamp_ms.map(|ms| (now_ms - ms).max(0) as f64 / 1_000.0);
                names::LATENCY.record(since.unwrap_or(age), &[]);
            }
        }
        // Last, so that a reader who sees these counts also sees the others.
        names::RECORDS.add(settled.published(), &["published"]);
        names::RECORDS.add(settled.dead_lettered(), &["dead_lettered"]);
        names::RECORDS.add(deletes, &["deleted"]);
        names::RECORDS.add(abandoned, &["abandoned"]);
        let mut state = LIVE.lock();
        state.settled.add(settled);
        state.clear(Component::Sink);
        if abandoned == 0 {
            self.next_offsets
                .iter()
                .for_each(|(partition, next)| state.partitions.update(partition, Some(*next), None));
        }
    }
}

/// An attempt to publish a window failed and will be retried.
pub(crate) fn publish_failed(error: &dyn std::error::Error) {
    names::PUBLISH_RETRIES.add(1, &[]);
    LIVE.report_unhealthy(Component::Sink, error.to_string());
}

/// No broker of the sink can be reached. The sink counts as unhealthy until the next window is published.
pub(crate) fn sink_unreachable(reason: &str) {
    LIVE.report_unhealthy(Component::Sink, reason);
}

// ---------------------------------------------------------------------------------------------------------------------
// Kafka

/// The source is about to join the consumer group.
pub(crate) fn group_joining(group: &str) {
    LIVE.report_unhealthy(Component::Assignment, format!("waiting for consumer group {group} to assign partitions"));
}

/// The group assigned partitions, possibly none; `owned` is how many this consumer has now.
pub(crate) fn partitions_assigned(owned: usize) {
    names::REBALANCES.add(1, &["assigned"]);
    names::ASSIGNED.set(owned as f64, &[]);
    LIVE.clear(Component::Assignment);
}

/// Partitions were revoked, or `are_lost` to another consumer already; this consumer still owns `owned`.
pub(crate) fn partitions_revoked<'a>(revoked: impl Iterator<Item = (&'a str, i32)>, are_lost: bool, owned: usize) {
    names::REBALANCES.add(1, &[if are_lost { "lost" } else { "revoked" }]);
    names::ASSIGNED.set(owned as f64, &[]);
    let mut state = LIVE.lock();
    for (topic, partition) in revoked {
        names::LAG.set(0.0, &[topic, &partition.to_string()]);
        state.partitions.remove(&name(topic, partition));
    }
}

/// A rebalance failed.
pub(crate) fn rebalance_failed() {
    names::REBALANCES.add(1, &["failed"]);
}

/// Progress of an assigned partition: `next` is the offset of the next record to settle, `end` the end of the partition.
pub(crate) fn partition_seen(topic: &str, partition: i32, next: Option<i64>, end: i64) {
    let (next, end) = (next.and_then(|next| u64::try_from(next).ok()), u64::try_from(end).ok());
    LIVE.lock().partitions.update(&name(topic, partition), next, end);
    if let (Some(next), Some(end)) = (next, end) {
        names::LAG.set(end.saturating_sub(next) as f64, &[topic, &partition.to_string()]);
    }
}

fn name(topic: &str, partition: i32) -> String {
    Partition::Topic { topic: topic.into(), partition, epoch: 0 }.name()
}

/// Reports whether any broker of the source can be reached.
pub(crate) fn brokers_seen(any: bool) {
    match any {
        true => LIVE.clear(Component::Source),
        false => LIVE.report_unhealthy(Component::Source, "no broker can be reached"),
    }
}

/// Offsets were committed outside a transaction, or the commit failed.
pub(crate) fn committed(is_ok: bool) {
    names::COMMITS.add(1, &[if is_ok { "ok" } else { "failed" }]);
}

/// A transaction that began at `began` was committed or aborted.
pub(crate) fn transaction_ended(began: Instant, is_committed: bool) {
    names::TRANSACTIONS.add(1, &[if is_committed { "committed" } else { "aborted" }]);
    names::TRANSACTION.record(began.elapsed().as_secs_f64(), &[]);
}

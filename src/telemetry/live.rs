//! The current state of the run: phase, progress of partitions, work in flight, health.
//!
//! Stages write it through [`super::events`]; the observer reads it. Locks are held only briefly. Memory is bounded:
//! at most [`PARTITIONS_MAX`] partitions, and one reason per [`Component`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::workers::PoolWatch;
use crate::budget::Budget;
use crate::record::Settled;

/// Partitions whose progress is kept: all that a consumer owns, and of many files those read last.
const PARTITIONS_MAX: usize = 1_024;

/// The state of the one run of this process.
pub(crate) static LIVE: Live = Live::new();

/// Counters and state of a run, shared by all threads.
pub(crate) struct Live {
    pub(super) records_read: AtomicU64,
    pub(super) windows_closed: AtomicU64,
    pub(super) windows_settled: AtomicU64,
    state: Mutex<State>,
}

/// The part of the state that a lock protects.
pub(super) struct State {
    pub model: Option<String>,
    pub running: Option<Running>,
    pub settled: Settled,
    pub partitions: PartitionTable,
    unhealthy: BTreeMap<Component, String>,
}

/// What exists only once all stages are running.
pub(super) struct Running {
    pub budget: Budget,
    pub pool: PoolWatch,
    pub drain: CancellationToken,
}

/// A component that can be unhealthy and so keep the run from being ready. Where several are, the first is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Component {
    /// The consumer group's assignment, which is awaited at the start.
    Assignment,
    /// The connection to the source's brokers.
    Source,
    /// The sink, while publishing fails.
    Sink,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Component::Assignment | Component::Source => "source",
            Component::Sink => "sink",
        }
    }
}

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Inputs are opened and the model is loaded.
    Starting,
    /// All stages are running.
    Running,
    /// Reading has stopped, and records already read are finished.
    Draining,
}

impl Live {
    const fn new() -> Live {
        Live {
            records_read: AtomicU64::new(0),
            windows_closed: AtomicU64::new(0),
            windows_settled: AtomicU64::new(0),
            state: Mutex::new(State {
                model: None,
                running: None,
                settled: Settled::NOTHING,
                partitions: PartitionTable(VecDeque::new()),
                unhealthy: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Windows that are closed and not yet settled.
    pub(crate) fn windows_in_flight(&self) -> u64 {
        // Settled windows are loaded first. A window that is closed in between makes the result one too large instead of
        // negative.
        let settled = self.windows_settled.load(Relaxed);
        self.windows_closed.load(Relaxed).saturating_sub(settled)
    }

    /// Marks `component` as unhealthy for this reason, until [`Live::clear`].
    pub(crate) fn report_unhealthy(&self, component: Component, reason: impl Into<String>) {
        self.lock().unhealthy.insert(component, reason.into());
    }

    /// Marks `component` as healthy again.
    pub(crate) fn clear(&self, component: Component) {
        self.lock().clear(component);
    }
}

impl State {
    pub(crate) fn clear(&mut self, component: Component) {
        self.unhealthy.remove(&component);
    }

    pub(crate) fn phase(&self) -> Phase {
        match &self.running {
            None => Phase::Starting,
            Some(running) if running.drain.is_cancelled() => Phase::Draining,
            Some(_) => Phase::Running,
        }
    }

    /// Why the run is not ready; `None` if it is ready.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match self.phase() {
            Phase::Starting => Some("starting: opening the inputs and loading the model".into()),
            Phase::Draining => Some("draining: finishing records already read".into()),
            Phase::Running => {
                let first = self.unhealthy.first_key_value();
                first.map(|(component, reason)| format!("{}: {reason}", component.as_str()))
            }
        }
    }
}

/// The progress of a partition: of a file, or of a Kafka topic's partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionProgress {
    /// The name of the partition, as in the output column `source`.
    pub partition: String,
    /// The offset of the next record to settle; `None` before the first one is settled.
    pub next_offset: Option<u64>,
    /// The offset after the partition's last record; `None` if the source does not know it.
    pub end_offset: Option<u64>,
}

impl PartitionProgress {
    /// Records that are not settled yet; `None` if either offset is unknown.
    pub(crate) fn lag(&self) -> Option<u64> {
        Some(self.end_offset?.saturating_sub(self.next_offset?))
    }
}

/// The progress of all partitions, the most recently updated last.
#[derive(Debug, Default)]
pub(super) struct PartitionTable(VecDeque<PartitionProgress>);

impl PartitionTable {
    /// Sets the offsets that are given and keeps the others. Beyond [`PARTITIONS_MAX`] the oldest entry is dropped.
    pub(crate) fn update(&mut self, partition: &str, next_offset: Option<u64>, end_offset: Option<u64>) {
        let known = self.0.iter().position(|progress| progress.partition == partition);
        let mut progress = match known.and_then(|index| self.0.remove(index)) {
            Some(progress) => progress,
            None => PartitionProgress { partition: partition.into(), next_offset: None, end_offset: None },
        };
        progress.next_offset = next_offset.or(progress.next_offset);
        progress.end_offset = end_offset.or(progress.end_offset);
        self.0.push_back(progress);
        if self.0.len() > PARTITIONS_MAX {
            self.0.pop_front();
        }
    }

    pub(crate) fn remove(&mut self, partition: &str) {
        self.0.retain(|progress| progress.partition != partition);
    }

    /// All entries in natural order of their names.
    pub(crate) fn sorted(&self) -> Vec<PartitionProgress> {
        let mut sorted: Vec<PartitionProgress> = self.0.iter().cloned().collect();
        sorted.sort_by_cached_key(|progress| natural_sort_key(&progress.partition));
        sorted
    }
}

/// A sort key that puts `t[2]` before `t[10]`.
fn natural_sort_key(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let (mut text, mut number) = (String::new(), None::<u64>);
    for c in name.chars() {
        match c.to_digit(10) {
            Some(digit) => number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(u64::from(digit))),
            None => {
                if let Some(number) = number.take() {
                    parts.push((std::mem::take(&mut text), number));
                }
                text.push(c);
            }
        }
    }
    parts.push((text, number.unwrap_or(0)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_bounded_and_sorted_by_number() {
        let mut partitions = PartitionTable::default();
        for number in 0..PARTITIONS_MAX as u64 + 10 {
            partitions.update(&format!("t[{number}]"), Some(number), None);
        }
        partitions.update("t[11]", None, Some(20));
        let sorted = partitions.sorted();
        assert_eq!(sorted.len(), PARTITIONS_MAX);
        assert_eq!(sorted[0].partition, "t[10]");
        assert_eq!((sorted[1].next_offset, sorted[1].lag(), sorted[0].lag()), (Some(11), Some(9), None));
        assert_eq!(sorted.last().map(|progress| progress.partition.as_str()), Some("t[1033]"));
        partitions.remove("t[10]");
        assert_eq!(partitions.sorted()[0].partition, "t[11]");
    }
}

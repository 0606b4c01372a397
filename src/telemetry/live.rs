//! The state now: how far the run is, where its partitions are, what is in flight and what is wrong.
//!
//! Stages write through [`super::events`], the observer reads. Locks are held for a moment only; whatever is kept is
//! bounded: partitions by [`PARTITIONS_MAX`], troubles by the parts that can have any.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::workers::PoolWatch;
use crate::budget::Budget;
use crate::record::Settled;

/// Partitions whose places are kept: all that a member of a group has, and of many files those read last.
const PARTITIONS_MAX: usize = 1_024;

/// The one run of this process.
pub static LIVE: Live = Live::new();

pub struct Live {
    pub(super) records_read: AtomicU64,
    pub(super) windows_closed: AtomicU64,
    pub(super) windows_settled: AtomicU64,
    state: Mutex<State>,
}

/// What is behind the lock.
pub(super) struct State {
    pub model: Option<String>,
    pub running: Option<Running>,
    pub settled: Settled,
    pub partitions: AllProgress,
    troubles: BTreeMap<Part, String>,
}

/// What only a run that has begun has.
pub(super) struct Running {
    pub budget: Budget,
    pub pool: PoolWatch,
    pub drain: CancellationToken,
}

/// What can keep a run from being ready, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The group has not given this member its partitions yet.
    Assignment,
    /// The source's brokers.
    Source,
    Sink,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Part::Assignment | Part::Source => "source",
            Part::Sink => "sink",
        }
    }
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Inputs are looked at, the model is loaded.
    Starting,
    Running,
    /// Nothing more is read; what was read is finished.
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
                partitions: AllProgress(VecDeque::new()),
                troubles: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Windows that are closed and not yet settled.
    pub fn windows_in_flight(&self) -> u64 {
        // The settled are loaded first: a window that is closed in between is one too many rather than below zero.
        let settled = self.windows_settled.load(Relaxed);
        self.windows_closed.load(Relaxed).saturating_sub(settled)
    }

    /// Something of `part` is not as it should be, until [`Live::well`].
    pub fn trouble(&self, part: Part, what: impl Into<String>) {
        self.lock().troubles.insert(part, what.into());
    }

    pub fn well(&self, part: Part) {
        self.lock().well(part);
    }
}

impl State {
    pub fn well(&mut self, part: Part) {
        self.troubles.remove(&part);
    }

    pub fn phase(&self) -> Phase {
        match &self.running {
            None => Phase::Starting,
            Some(running) if running.drain.is_cancelled() => Phase::Draining,
            Some(_) => Phase::Running,
        }
    }

    /// Why the run is not ready; `None` where it is.
    pub fn not_ready(&self) -> Option<String> {
        match self.phase() {
            Phase::Starting => Some("starting: the inputs are looked at and the model is loaded".into()),
            Phase::Draining => Some("draining: what was read is finished, nothing more is read".into()),
            Phase::Running => self.troubles.first_key_value().map(|(part, what)| format!("{}: {what}", part.as_str())),
        }
    }
}

/// Where a partition is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionProgress {
    /// As in the column `source`.
    pub partition: String,
    /// The offset of the first record that is not settled; `None` before the first is.
    pub next: Option<u64>,
    /// The offset after the last record that there is; `None` where the source does not say.
    pub end: Option<u64>,
}

impl PartitionProgress {
    /// Records that are still to come, as far as that is known.
    pub fn lag(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.next?))
    }
}

/// The partitions' places, the one that changed last at the end.
#[derive(Debug, Default)]
pub(super) struct AllProgress(VecDeque<PartitionProgress>);

impl AllProgress {
    pub fn note(&mut self, partition: &str, next: Option<u64>, end: Option<u64>) {
        let known = self.0.iter().position(|place| place.partition == partition);
        let mut place = match known.and_then(|index| self.0.remove(index)) {
            Some(place) => place,
            None => PartitionProgress { partition: partition.into(), next: None, end: None },
        };
        place.next = next.or(place.next);
        place.end = end.or(place.end);
        self.0.push_back(place);
        if self.0.len() > PARTITIONS_MAX {
            self.0.pop_front();
        }
    }

    pub fn forget(&mut self, partition: &str) {
        self.0.retain(|place| place.partition != partition);
    }

    /// By name, numbers in names as numbers.
    pub fn sorted(&self) -> Vec<PartitionProgress> {
        let mut places: Vec<PartitionProgress> = self.0.iter().cloned().collect();
        places.sort_by_cached_key(|place| natural(&place.partition));
        places
    }
}

/// A key that sorts `t[2]` before `t[10]`.
fn natural(name: &str) -> Vec<(String, u64)> {
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
    fn places_are_bounded_and_sorted_by_number() {
        let mut places = AllProgress::default();
        for number in 0..PARTITIONS_MAX as u64 + 10 {
            places.note(&format!("t[{number}]"), Some(number), None);
        }
        places.note("t[11]", None, Some(20));
        let sorted = places.sorted();
        assert_eq!(sorted.len(), PARTITIONS_MAX);
        assert_eq!(sorted[0].partition, "t[10]");
        assert_eq!((sorted[1].next, sorted[1].lag(), sorted[0].lag()), (Some(11), Some(9), None));
        assert_eq!(sorted.last().map(|place| place.partition.as_str()), Some("t[1033]"));
        places.forget("t[10]");
        assert_eq!(places.sorted()[0].partition, "t[11]");
    }
}

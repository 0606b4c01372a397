//! The ledger of assigned partitions: which ones this consumer owns, which of their records were handed to the pipeline,
//! and which of those are settled.
//!
//! The source's thread assigns, hands out and revokes inside the consumer's callbacks; delivery's thread settles. Every
//! assignment of a partition has an epoch of its own, so a window that was read under an earlier one is recognised as late,
//! and its rows must not be published. Delivery locks the assignment from that check until the window is settled; a
//! revocation waits for the lock, so the answer cannot become wrong in between.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::Partition;

/// A topic's name and a partition's number.
pub(crate) type TopicPartition = (Arc<str>, i32);

/// The partitions that are assigned to this consumer, and their offsets.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    /// Locked by delivery while it settles a window, and by a revocation. It is always taken before `state`, which is only
    /// ever held for a moment.
    settling: Mutex<()>,
    state: Mutex<AssignmentState>,
    /// Notified whenever records are settled.
    settled: Condvar,
}

#[derive(Debug, Default)]
struct AssignmentState {
    epoch: u64,
    owned: HashMap<TopicPartition, OwnedPartition>,
    /// Owned partitions whose revocation has begun: what was read from them should become durable now.
    revoking: Vec<TopicPartition>,
}

/// Each offset is that of the next record: once the record with offset 7 was handed out, `handed_out` is 8.
#[derive(Debug)]
struct OwnedPartition {
    partition: Arc<Partition>,
    handed_out: Option<i64>,
    settled: Option<i64>,
    committed: Option<i64>,
}

impl OwnedPartition {
    fn is_settled(&self) -> bool {
        // More can be settled than was handed out: existing files may show that an earlier run had read further.
        self.settled >= self.handed_out
    }
}

impl Assignment {
    fn state(&self) -> MutexGuard<'_, AssignmentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new epoch, in which these partitions are owned in addition to those that already were.
    pub(crate) fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        let mut state = self.state();
        state.epoch += 1;
        let epoch = state.epoch;
        for (topic, number) in partitions {
            let partition = Arc::new(Partition::Topic { topic: topic.clone(), partition: number, epoch });
            let owned = OwnedPartition { partition, handed_out: None, settled: None, committed: None };
            state.owned.insert((topic, number), owned);
        }
    }

    /// Waits up to `drain` until every record that was handed out from these partitions is settled, lets `commit` commit
    /// the offsets that are settled but not yet committed, and then removes the partitions. Records that are not settled by
    /// then never will be: the partition's next owner reads them again.
    pub(crate) fn revoke(
        &self,
        partitions: &[TopicPartition],
        drain: Duration,
        commit: impl FnOnce(&[(TopicPartition, i64)]),
    ) {
        let deadline = Instant::now() + drain;
        let mut state = self.state();
        state.revoking.extend_from_slice(partitions);
        let are_settled = |state: &AssignmentState| {
            partitions.iter().filter_map(|key| state.owned.get(key)).all(OwnedPartition::is_settled)
        };
        while !are_settled(&state) {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let uncommitted = partitions.iter().filter_map(|key| {
            let owned = state.owned.get(key)?;
            (owned.settled != owned.committed).then_some((key.clone(), owned.settled?))
        });
        let uncommitted: Vec<_> = uncommitted.collect();
        commit(&uncommitted);
        for key in partitions {
            state.owned.remove(key);
        }
        state.revoking.retain(|key| !partitions.contains(key));
    }

    /// The partition under its present epoch; `None` if it is not owned.
    pub(crate) fn partition(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        let state = self.state();
        // A search is enough for few partitions, and a key for a lookup would have to be allocated for every message.
        let found = state.owned.iter().find(|((name, partition), _)| *partition == number && &**name == topic);
        found.map(|(_, owned)| owned.partition.clone())
    }

    /// Records that the pipeline has got all records before offset `next`. Returns `false` if the partition is no longer
    /// owned.
    pub(crate) fn hand_out(&self, partition: &Partition, next: i64) -> bool {
        match self.state().owned_mut(partition) {
            Some(owned) => {
                owned.handed_out = Some(next);
                true
            }
            None => false,
        }
    }

    /// Whether the partition is owned, under the same epoch.
    pub(crate) fn owns(&self, partition: &Partition) -> bool {
        self.state().owned_mut(partition).is_some()
    }

    /// The owned partitions.
    pub(crate) fn topic_partitions(&self) -> Vec<TopicPartition> {
        self.state().owned.keys().cloned().collect()
    }

    /// The owned partitions, each with the offset after its last settled record.
    pub(crate) fn settled(&self) -> Vec<(Arc<str>, i32, Option<i64>)> {
        let state = self.state();
        state.owned.iter().map(|((topic, number), owned)| (topic.clone(), *number, owned.settled)).collect()
    }

    /// Whether every record that was handed out from an owned partition is settled.
    pub(crate) fn all_settled(&self) -> bool {
        self.state().owned.values().all(OwnedPartition::is_settled)
    }

    /// The offsets that are settled and not yet committed.
    pub(crate) fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.state();
        let uncommitted = state.owned.iter().filter(|(_, owned)| owned.settled != owned.committed);
        uncommitted.filter_map(|(key, owned)| Some((key.clone(), owned.settled?))).collect()
    }

    /// Keeps partitions from being revoked for as long as the guard lives.
    pub(crate) fn lock(&self) -> AssignmentGuard<'_> {
        AssignmentGuard { assignment: self, _settling: self.settling.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl AssignmentState {
    /// `None` also for a partition that is owned again under another epoch.
    fn owned_mut(&mut self, partition: &Partition) -> Option<&mut OwnedPartition> {
        let Partition::Topic { topic, partition: number, .. } = partition else { return None };
        self.owned.get_mut(&(topic.clone(), *number)).filter(|owned| *owned.partition == *partition)
    }
}

/// The assignment, from which no partition is revoked while this guard lives.
pub(crate) struct AssignmentGuard<'a> {
    assignment: &'a Assignment,
    _settling: MutexGuard<'a, ()>,
}

impl AssignmentGuard<'_> {
    /// Whether the partition is owned, under the same epoch.
    pub(crate) fn owns(&self, partition: &Partition) -> bool {
        self.assignment.owns(partition)
    }

    /// Whether the partition's revocation has begun.
    pub(crate) fn is_revoking(&self, partition: &Partition) -> bool {
        let Partition::Topic { topic, partition: number, .. } = partition else { return false };
        self.assignment.state().revoking.iter().any(|(name, revoking)| revoking == number && name == topic)
    }

    /// Records that all records before offset `next` are settled, and whether the group's committed offset says so too.
    pub(crate) fn settle(&self, partition: &Partition, next: i64, committed: bool) {
        if let Some(owned) = self.assignment.state().owned_mut(partition) {
            owned.settled = Some(next);
            if committed {
                owned.committed = Some(next);
            }
        }
        self.assignment.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> TopicPartition {
        ("t".into(), partition)
    }

    #[test]
    fn an_earlier_epoch_is_not_owned() {
        let assignment = Assignment::default();
        assignment.assign([key(0), key(1)]);
        let before = assignment.partition("t", 0).expect("it is assigned");
        assert!(assignment.hand_out(&before, 5));
        assignment.revoke(&[key(0)], Duration::ZERO, |uncommitted| assert!(uncommitted.is_empty()));
        assert!(assignment.partition("t", 0).is_none());
        assignment.assign([key(0)]);
        let after = assignment.partition("t", 0).expect("it is assigned again");
        assert!(!assignment.owns(&before) && assignment.owns(&after));
        assert!(!assignment.lock().owns(&before));
        assert!(!assignment.hand_out(&before, 6));
        assert!(assignment.all_settled(), "records of the earlier epoch are not waited for");
    }

    #[test]
    fn a_revocation_waits_for_records_in_flight_and_commits_the_rest() {
        let assignment = Arc::new(Assignment::default());
        assignment.assign([key(0)]);
        let partition = assignment.partition("t", 0).expect("it is assigned");
        assignment.hand_out(&partition, 3);
        let delivery = std::thread::spawn({
            let assignment = assignment.clone();
            move || {
                std::thread::sleep(Duration::from_millis(50));
                assignment.lock().settle(&partition, 3, false);
            }
        });
        let mut committed = Vec::new();
        assignment.revoke(&[key(0)], Duration::from_secs(60), |uncommitted| committed = uncommitted.to_vec());
        assert_eq!(committed, [(key(0), 3)]);
        delivery.join().expect("it does not panic");
    }
}

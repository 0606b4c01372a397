//! Which partitions are ours, what of them was handed to the pipeline, and what of that is settled.
//!
//! Shared by the source's thread, which assigns, hands out and revokes inside the consumer's callbacks, and delivery's,
//! which settles. Every assignment of a partition has an epoch of its own, so that a window read under an earlier one is
//! known to be late: its rows are no longer ours to publish. Delivery holds the assignment from that question until the
//! window is settled; a revocation waits for it, so no answer can go stale in between.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::Partition;

/// A topic and a partition's number.
pub type TopicPartition = (Arc<str>, i32);

#[derive(Debug, Default)]
pub struct Assignment {
    /// AssignmentGuard by delivery while it settles a window, and taken by a revocation; always before `state`, which is only ever
    /// held for a moment.
    settling: Mutex<()>,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    owned: HashMap<TopicPartition, Owned>,
    /// Partitions of ours that are being taken away: what of them is not durable yet should become so.
    revoking: Vec<TopicPartition>,
}

/// Offsets are those of the next record: after it was handed out up to 7, `handed` is 8.
#[derive(Debug)]
struct Owned {
    partition: Arc<Partition>,
    handed: Option<i64>,
    settled: Option<i64>,
    committed: Option<i64>,
}

impl Owned {
    fn is_settled(&self) -> bool {
        // More than was handed out is settled where files tell that an earlier run had come further.
        self.settled >= self.handed
    }
}

impl Assignment {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new epoch in which these partitions are ours too.
    pub fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        let mut state = self.state();
        state.epoch += 1;
        let epoch = state.epoch;
        for (topic, number) in partitions {
            let partition = Arc::new(Partition::Topic { topic: topic.clone(), partition: number, epoch });
            let owned = Owned { partition, handed: None, settled: None, committed: None };
            state.owned.insert((topic, number), owned);
        }
    }

    /// Waits up to `drain` until everything handed out of these partitions is settled, lets `last` do what is still to be
    /// done for them, and gives them up. What is not settled by then never will be: it is read again by whoever has the
    /// partition next.
    pub fn revoke(&self, partitions: &[TopicPartition], drain: Duration, last: impl FnOnce(&[(TopicPartition, i64)])) {
        let deadline = Instant::now() + drain;
        let mut state = self.state();
        state.revoking.extend_from_slice(partitions);
        let settled = |state: &State| partitions.iter().filter_map(|key| state.owned.get(key)).all(Owned::is_settled);
        while !settled(&state) {
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
        last(&uncommitted);
        for key in partitions {
            state.owned.remove(key);
        }
        state.revoking.retain(|key| !partitions.contains(key));
    }

    /// The partition as it is assigned now; `None` if it is not ours.
    pub fn partition(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        let state = self.state();
        // A key to look up by would need an allocation a message; there are few partitions.
        let found = state.owned.iter().find(|((name, partition), _)| *partition == number && &**name == topic);
        found.map(|(_, owned)| owned.partition.clone())
    }

    /// Notes that records up to before `next` go to the pipeline. `false`: the partition is not ours any more.
    pub fn hand_out(&self, partition: &Partition, next: i64) -> bool {
        match self.state().owned_mut(partition) {
            Some(owned) => {
                owned.handed = Some(next);
                true
            }
            None => false,
        }
    }

    pub fn owns(&self, partition: &Partition) -> bool {
        self.state().owned_mut(partition).is_some()
    }

    /// The partitions that are ours.
    pub fn keys(&self) -> Vec<TopicPartition> {
        self.state().owned.keys().cloned().collect()
    }

    /// The partitions that are ours, and where what is settled of them ends.
    pub fn settled(&self) -> Vec<(Arc<str>, i32, Option<i64>)> {
        let state = self.state();
        state.owned.iter().map(|((topic, number), owned)| (topic.clone(), *number, owned.settled)).collect()
    }

    /// Whether nothing of ours is on its way.
    pub fn all_settled(&self) -> bool {
        self.state().owned.values().all(Owned::is_settled)
    }

    /// What is settled and not yet committed.
    pub fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.state();
        let left = state.owned.iter().filter(|(_, owned)| owned.settled != owned.committed);
        left.filter_map(|(key, owned)| Some((key.clone(), owned.settled?))).collect()
    }

    /// Stops the assignment from changing for as long as the answer lives.
    pub fn lock(&self) -> AssignmentGuard<'_> {
        AssignmentGuard { assignment: self, _settling: self.settling.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl State {
    /// `None` also of a partition that is ours again under another epoch.
    fn owned_mut(&mut self, partition: &Partition) -> Option<&mut Owned> {
        let Partition::Topic { topic, partition: number, .. } = partition else { return None };
        self.owned.get_mut(&(topic.clone(), *number)).filter(|owned| *owned.partition == *partition)
    }
}

/// The assignment, held still.
pub struct AssignmentGuard<'a> {
    assignment: &'a Assignment,
    _settling: MutexGuard<'a, ()>,
}

impl AssignmentGuard<'_> {
    pub fn owns(&self, partition: &Partition) -> bool {
        self.assignment.owns(partition)
    }

    /// Whether the partition is being taken away.
    pub fn is_revoking(&self, partition: &Partition) -> bool {
        let Partition::Topic { topic, partition: number, .. } = partition else { return false };
        self.assignment.state().revoking.iter().any(|(name, revoking)| revoking == number && name == topic)
    }

    /// Notes that records up to before `next` are settled; `committed` if the group's offset says so too.
    pub fn settle(&self, partition: &Partition, next: i64, committed: bool) {
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
    fn an_earlier_epoch_is_not_ours() {
        let assignment = Assignment::default();
        assignment.assign([key(0), key(1)]);
        let before = assignment.partition("t", 0).expect("it is assigned");
        assert!(assignment.hand_out(&before, 5));
        assignment.revoke(&[key(0)], Duration::ZERO, |left| assert!(left.is_empty()));
        assert!(assignment.partition("t", 0).is_none());
        assignment.assign([key(0)]);
        let after = assignment.partition("t", 0).expect("it is assigned again");
        assert!(!assignment.owns(&before) && assignment.owns(&after));
        assert!(!assignment.lock().owns(&before));
        assert!(!assignment.hand_out(&before, 6));
        assert!(assignment.all_settled(), "what was on its way in the earlier epoch is nobody's");
    }

    #[test]
    fn a_revocation_waits_for_what_is_on_its_way_and_commits_the_rest() {
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
        let mut left = Vec::new();
        assignment.revoke(&[key(0)], Duration::from_secs(60), |uncommitted| left = uncommitted.to_vec());
        assert_eq!(left, [(key(0), 3)]);
        delivery.join().expect("it does not panic");
    }
}

//! Tracks which of the assigned partitions are read to their ends.
//!
//! librdkafka's event for the end of a partition names the partition's number, but not its topic:
//!
//! | event | conclusion |
//! |---|---|
//! | a message at or after the end offset that the partition had at the start | this partition is read to its end, and is paused |
//! | `PartitionEOF(number)`, once for each assigned, unpaused partition of this number | each of them is at its end |
//! | partitions were revoked | earlier events may have come from them: all partitions are paused and resumed, and each reports its end again |
//!
//! Messages alone are not enough, because the last offsets of a partition may be transaction markers, which no consumer
//! ever receives.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::delivery::assignment::TopicPartition;

/// What the consumer's callbacks and polls have reported.
pub(super) struct EofTracker {
    /// How many end events came since the last resume, by the partitions' number.
    eof_events: HashMap<i32, usize>,
    /// Partitions that a message has shown to be read to their ends, and that are paused.
    finished: HashSet<TopicPartition>,
    last_rebalance: Instant,
    /// Partitions were revoked, so `eof_events` may contain events of theirs.
    is_stale: bool,
}

impl EofTracker {
    pub(super) fn new(now: Instant) -> EofTracker {
        EofTracker { eof_events: HashMap::new(), finished: HashSet::new(), last_rebalance: now, is_stale: false }
    }

    /// Partitions were assigned, or the consumer has subscribed.
    pub(super) fn assigned(&mut self) {
        self.last_rebalance = Instant::now();
    }

    pub(super) fn revoked(&mut self, partitions: &[TopicPartition]) {
        self.finished.retain(|key| !partitions.contains(key));
        self.last_rebalance = Instant::now();
        self.is_stale = true;
    }

    pub(super) fn last_rebalance(&self) -> Instant {
        self.last_rebalance
    }

    /// Whether the partitions must be paused and resumed, so that they report their ends again.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// All partitions were resumed after a pause, except those that are finished. Each of them reports its end again.
    pub(super) fn resumed(&mut self) {
        self.eof_events.clear();
        self.is_stale = false;
    }

    /// A message has shown that the partition is read to its end.
    pub(super) fn finish(&mut self, partition: TopicPartition) {
        self.finished.insert(partition);
    }

    pub(super) fn is_finished(&self, partition: &TopicPartition) -> bool {
        self.finished.contains(partition)
    }

    /// A partition of this number has reported its end.
    pub(super) fn partition_eof(&mut self, number: i32) {
        *self.eof_events.entry(number).or_default() += 1;
    }

    /// Whether every assigned partition is read to its end.
    pub(super) fn all_at_end(&self, assigned: &[TopicPartition]) -> bool {
        let unfinished = assigned.iter().filter(|key| !self.finished.contains(key));
        let mut expected = HashMap::<i32, usize>::new();
        unfinished.for_each(|(_, number)| *expected.entry(*number).or_default() += 1);
        expected.iter().all(|(number, count)| self.eof_events.get(number).is_some_and(|events| events >= count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_number_are_at_their_ends_when_each_has_said_so_or_is_finished() {
        let key = |topic: &str, number: i32| (topic.into(), number);
        let assigned = [key("a", 0), key("b", 0), key("a", 1)];
        let mut tracker = EofTracker::new(Instant::now());
        let check = |tracker: &EofTracker, expected: bool| assert_eq!(tracker.all_at_end(&assigned), expected);
        tracker.partition_eof(0);
        tracker.partition_eof(1);
        check(&tracker, false);
        tracker.partition_eof(0);
        check(&tracker, true);
        tracker.resumed();
        tracker.partition_eof(0);
        tracker.partition_eof(1);
        check(&tracker, false);
        tracker.finish(key("b", 0));
        check(&tracker, true);
        tracker.revoked(&[key("b", 0)]);
        assert!(tracker.is_stale());
        check(&tracker, false);
    }
}

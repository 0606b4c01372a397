//! Which of the assigned partitions are read to their ends.
//!
//! librdkafka's event of a partition's end names the partition's number, but not its topic:
//!
//! | event | what it shows |
//! |---|---|
//! | a message at or after the end that the partition had at the start | this partition is read to its end: it is paused |
//! | `PartitionEOF(number)`, as many times as partitions of that number are assigned and not paused | each of them is at its end |
//! | partitions were revoked | earlier events may have been theirs: all are paused and resumed, then each tells again |
//!
//! The event is needed because a partition's last offsets may be transaction markers, which no consumer ever receives.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::delivery::assignment::TopicPartition;
use crate::kafka::KafkaError;

/// What the consumer's callbacks and its polls tell.
pub struct EofTracker {
    /// Events of an end since the last pause, by the partitions' number.
    events: HashMap<i32, usize>,
    /// Partitions that are read to their ends for certain, and paused.
    passed: HashSet<TopicPartition>,
    /// When partitions last came or went.
    pub rebalanced: Instant,
    /// Partitions went, and with them the meaning of the events that there were.
    unclear: bool,
    failed: Option<KafkaError>,
}

impl EofTracker {
    pub fn new(now: Instant) -> EofTracker {
        EofTracker { events: HashMap::new(), passed: HashSet::new(), rebalanced: now, unclear: false, failed: None }
    }

    /// Partitions came, or reading begins.
    pub fn assigned(&mut self) {
        self.rebalanced = Instant::now();
    }

    pub fn revoked(&mut self, keys: &[TopicPartition]) {
        self.passed.retain(|key| !keys.contains(key));
        self.rebalanced = Instant::now();
        self.unclear = true;
    }

    /// Notes what makes going on impossible.
    pub fn failed(&mut self, error: KafkaError) {
        self.failed.get_or_insert(error);
    }

    pub fn take_failed(&mut self) -> Option<KafkaError> {
        self.failed.take()
    }

    /// Whether a pause is needed, after which partitions tell of their ends again.
    pub fn is_unclear(&self) -> bool {
        self.unclear
    }

    /// Partitions go on after a pause, but for those that are passed: whichever is at its end tells so again.
    pub fn resumed(&mut self) {
        self.events.clear();
        self.unclear = false;
    }

    /// The partition's end is behind.
    pub fn passed(&mut self, key: TopicPartition) {
        self.passed.insert(key);
    }

    pub fn is_passed(&self, key: &TopicPartition) -> bool {
        self.passed.contains(key)
    }

    /// A partition of this number is at its end.
    pub fn event(&mut self, number: i32) {
        *self.events.entry(number).or_default() += 1;
    }

    pub fn are_reached(&self, ours: &[TopicPartition]) -> bool {
        let open = ours.iter().filter(|key| !self.passed.contains(key));
        let mut wanted = HashMap::<i32, usize>::new();
        open.for_each(|(_, number)| *wanted.entry(*number).or_default() += 1);
        wanted.iter().all(|(number, partitions)| self.events.get(number).is_some_and(|events| events >= partitions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_number_are_at_their_ends_when_each_has_said_so_or_is_passed() {
        let key = |topic: &str, number: i32| (topic.into(), number);
        let ours = [key("a", 0), key("b", 0), key("a", 1)];
        let mut ends = EofTracker::new(Instant::now());
        let check = |ends: &EofTracker, expected: bool| assert_eq!(ends.are_reached(&ours), expected);
        ends.event(0);
        ends.event(1);
        check(&ends, false);
        ends.event(0);
        check(&ends, true);
        ends.resumed();
        ends.event(0);
        ends.event(1);
        check(&ends, false);
        ends.passed(key("b", 0));
        check(&ends, true);
        ends.revoked(&[key("b", 0)]);
        assert!(ends.is_unclear());
        check(&ends, false);
    }
}

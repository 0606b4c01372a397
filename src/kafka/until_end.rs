//! When is a topic read to its end? With `until_end`, once every partition was read to the end that it had at the start,
//! by this member or by others of the group.
//!
//! A message at or behind its partition's end proves it, and the partition is paused. But a partition's last offsets may
//! be a transaction's markers, which no reader ever sees: then only the consumer's event tells that there is nothing more.
//! That event names the partition's number but not its topic. A partition tells of its end once, and again after it was
//! paused; so those of one number, of several topics, are all at their ends once there were as many events as partitions.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::KafkaError;
use super::assignment::Key;
use super::client::{ASK_MAX, failed};
use super::group::{Group, list};
use super::topic_names::TopicNames;
use crate::failure::Failure;

/// How often the group's positions are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After so long without a change, partitions of other members are theirs to finish: a dead one would have lost them.
const OTHERS_MAX: Duration = Duration::from_secs(60);

/// What the consumer's callbacks and its polls tell.
pub struct Ends {
    /// Events of an end since the last pause, by the partitions' number.
    events: HashMap<i32, usize>,
    /// Partitions that are read to their ends for certain, and paused.
    passed: HashSet<Key>,
    /// When partitions last came or went.
    rebalanced: Instant,
    /// Partitions went, and with them the meaning of the events that there were.
    unclear: bool,
    failed: Option<KafkaError>,
}

impl Ends {
    pub fn new(now: Instant) -> Ends {
        Ends { events: HashMap::new(), passed: HashSet::new(), rebalanced: now, unclear: false, failed: None }
    }

    /// Partitions came, or reading begins.
    pub fn assigned(&mut self) {
        self.rebalanced = Instant::now();
    }

    pub fn revoked(&mut self, keys: &[Key]) {
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
    pub fn passed(&mut self, key: Key) {
        self.passed.insert(key);
    }

    pub fn is_passed(&self, key: &Key) -> bool {
        self.passed.contains(key)
    }

    /// A partition of this number is at its end.
    pub fn event(&mut self, number: i32) {
        *self.events.entry(number).or_default() += 1;
    }

    fn are_reached(&self, ours: &[Key]) -> bool {
        let open = ours.iter().filter(|key| !self.passed.contains(key));
        let mut wanted = HashMap::<i32, usize>::new();
        open.for_each(|(_, number)| *wanted.entry(*number).or_default() += 1);
        wanted.iter().all(|(number, partitions)| self.events.get(number).is_some_and(|events| events >= partitions))
    }
}

/// The ends that the topics had at the start.
pub struct UntilEnd {
    /// High watermarks.
    ends: HashMap<Key, i64>,
    asked: Instant,
}

impl UntilEnd {
    /// Asks for them.
    pub fn begin(consumer: &BaseConsumer<Group>, topics: &[String]) -> Result<UntilEnd, KafkaError> {
        let ends = ends_of(consumer, topics)?;
        Ok(UntilEnd { ends, asked: Instant::now() })
    }

    /// Whether a message lies behind the end of its partition; of one that was not there at the start, every one does.
    pub fn is_behind(&self, topic: &str, number: i32, offset: i64) -> bool {
        // There are few partitions, and a key to look up by would need an allocation a message.
        let of_partition = |((name, partition), _): &(&Key, &i64)| *partition == number && &**name == topic;
        self.ends.iter().find(of_partition).is_none_or(|(_, end)| offset >= *end)
    }

    pub fn is_reached(&mut self, consumer: &BaseConsumer<Group>) -> bool {
        // No topic matched a pattern, and what comes now lies behind the end.
        if self.ends.is_empty() {
            return true;
        }
        let group = consumer.context();
        let ours = group.assignment.keys();
        {
            let ends = group.ends();
            if !ends.are_reached(&ours) {
                return false;
            }
            if ends.rebalanced.elapsed() > OTHERS_MAX {
                return true;
            }
        }
        let others: Vec<(Key, i64)> = self
            .ends
            .iter()
            .filter(|(key, end)| **end > 0 && !ours.contains(key))
            .map(|(key, end)| (key.clone(), *end))
            .collect();
        if others.is_empty() {
            return !ours.is_empty();
        }
        if self.asked.elapsed() < ASK_EVERY {
            return false;
        }
        self.asked = Instant::now();
        let committed = consumer.committed_offsets(list(&others), ASK_MAX);
        committed.is_ok_and(|committed| {
            let done = |(key, end): &(Key, i64)| {
                let offset = committed.find_partition(&key.0, key.1).map(|element| element.offset());
                matches!(offset, Some(Offset::Offset(offset)) if offset >= *end)
            };
            others.iter().all(done)
        })
    }
}

/// The topics' names, whose patterns the plan has seen to be some.
pub fn names(topics: &[String]) -> Result<TopicNames, KafkaError> {
    let wrong = |message| KafkaError::Failed { what: "source.kafka.topics".into(), message, failure: Failure::Fatal };
    TopicNames::new(topics).map_err(wrong)
}

/// The high watermarks of the topics' partitions; a topic that begins with ^ is a pattern.
pub fn ends_of(consumer: &BaseConsumer<Group>, topics: &[String]) -> Result<HashMap<Key, i64>, KafkaError> {
    let asking = |error| failed("source.kafka: asking for the topics' ends", &error);
    let wanted = names(topics)?;
    let metadata = consumer.fetch_metadata(None, ASK_MAX).map_err(asking)?;
    let mut ends = HashMap::new();
    for topic in metadata.topics().iter().filter(|topic| wanted.contains(topic.name())) {
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), ASK_MAX).map_err(asking)?;
            ends.insert((topic.name().into(), partition.id()), end);
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_number_are_at_their_ends_when_each_has_said_so_or_is_passed() {
        let key = |topic: &str, number: i32| (topic.into(), number);
        let ours = [key("a", 0), key("b", 0), key("a", 1)];
        let mut ends = Ends::new(Instant::now());
        let check = |ends: &Ends, expected: bool| assert_eq!(ends.are_reached(&ours), expected);
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

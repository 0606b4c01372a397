//! When is a topic read to its end? With `until_end`, once every partition was read to the end that it had at the start,
//! by this member or by others of the group.
//!
//! What the events of the consumer prove is in [`super::eof_tracker`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{QUERY_MAX, failed};
use super::group::{Group, list};
use crate::delivery::assignment::TopicPartition;
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::topic_names::TopicNames;

/// How often the group's positions are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After so long without a change, partitions of other members are theirs to finish: a dead one would have lost them.
const OTHERS_MAX: Duration = Duration::from_secs(60);

/// The ends that the topics had at the start.
pub struct UntilEnd {
    /// High watermarks.
    ends: HashMap<TopicPartition, i64>,
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
        let of_partition = |((name, partition), _): &(&TopicPartition, &i64)| *partition == number && &**name == topic;
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
        let others: Vec<(TopicPartition, i64)> = self
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
        let committed = consumer.committed_offsets(list(&others), QUERY_MAX);
        committed.is_ok_and(|committed| {
            let done = |(key, end): &(TopicPartition, i64)| {
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
pub fn ends_of(consumer: &BaseConsumer<Group>, topics: &[String]) -> Result<HashMap<TopicPartition, i64>, KafkaError> {
    let asking = |error| failed("source.kafka: asking for the topics' ends", &error);
    let wanted = names(topics)?;
    let metadata = consumer.fetch_metadata(None, QUERY_MAX).map_err(asking)?;
    let mut ends = HashMap::new();
    for topic in metadata.topics().iter().filter(|topic| wanted.contains(topic.name())) {
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), QUERY_MAX).map_err(asking)?;
            ends.insert((topic.name().into(), partition.id()), end);
        }
    }
    Ok(ends)
}

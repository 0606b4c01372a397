//! Decides when a run with `until_end` stops: once every partition is read to the end that it had at the start, by this
//! consumer or by other members of its group.
//!
//! [`super::eof_tracker`] says what the consumer's events prove about its own partitions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{QUERY_MAX, operation_failed};
use super::group::{GroupContext, offset_list};
use crate::delivery::assignment::TopicPartition;
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::topic_names::TopicNames;

/// How often the group's committed offsets are queried.
const QUERY_EVERY: Duration = Duration::from_secs(1);
/// After so long without a rebalance, the partitions of other members are left to them: a dead member would have lost its
/// partitions by then.
const OTHER_MEMBERS_MAX: Duration = Duration::from_secs(60);

/// The end offsets that the topics' partitions had at the start.
pub(super) struct UntilEnd {
    ends: HashMap<TopicPartition, i64>,
    last_query: Instant,
}

impl UntilEnd {
    /// Queries the end offsets.
    pub(super) fn begin(consumer: &BaseConsumer<GroupContext>, topics: &[String]) -> Result<UntilEnd, KafkaError> {
        let ends = end_offsets(consumer, topics)?;
        Ok(UntilEnd { ends, last_query: Instant::now() })
    }

    /// Whether a message was produced after the start. This is so for every message of a partition that did not exist then.
    pub(super) fn is_past_end(&self, topic: &str, number: i32, offset: i64) -> bool {
        // A search is enough for few partitions, and a key for a lookup would have to be allocated for every message.
        let of_partition = |((name, partition), _): &(&TopicPartition, &i64)| *partition == number && &**name == topic;
        self.ends.iter().find(of_partition).is_none_or(|(_, end)| offset >= *end)
    }

    /// Whether every partition is read to its end.
    pub(super) fn is_reached(&mut self, consumer: &BaseConsumer<GroupContext>) -> bool {
        // No topic matched a pattern, and whatever is created now lies past the end.
        if self.ends.is_empty() {
            return true;
        }
        let context = consumer.context();
        let owned = context.assignment.topic_partitions();
        {
            let eof_tracker = context.eof_tracker();
            if !eof_tracker.all_at_end(&owned) {
                return false;
            }
            if eof_tracker.last_rebalance().elapsed() > OTHER_MEMBERS_MAX {
                return true;
            }
        }
        let of_others: Vec<(TopicPartition, i64)> = self
            .ends
            .iter()
            .filter(|(key, end)| **end > 0 && !owned.contains(key))
            .map(|(key, end)| (key.clone(), *end))
            .collect();
        if of_others.is_empty() {
            return !owned.is_empty();
        }
        if self.last_query.elapsed() < QUERY_EVERY {
            return false;
        }
        self.last_query = Instant::now();
        let committed = consumer.committed_offsets(offset_list(&of_others), QUERY_MAX);
        committed.is_ok_and(|committed| {
            let is_read = |((topic, number), end): &(TopicPartition, i64)| {
                let offset = committed.find_partition(topic, *number).map(|element| element.offset());
                matches!(offset, Some(Offset::Offset(offset)) if offset >= *end)
            };
            of_others.iter().all(is_read)
        })
    }
}

/// The names and patterns of `source.kafka.topics`. The plan has already checked the patterns.
pub(super) fn topic_names(topics: &[String]) -> Result<TopicNames, KafkaError> {
    let invalid =
        |message| KafkaError::Failed { subject: "source.kafka.topics".into(), message, failure: Failure::Fatal };
    TopicNames::new(topics).map_err(invalid)
}

/// The end offsets (high watermarks) of the partitions of every topic that matches.
pub(super) fn end_offsets(
    consumer: &BaseConsumer<GroupContext>,
    topics: &[String],
) -> Result<HashMap<TopicPartition, i64>, KafkaError> {
    let query_failed = |error| operation_failed("source.kafka: querying the topics' end offsets", &error);
    let names = topic_names(topics)?;
    let metadata = consumer.fetch_metadata(None, QUERY_MAX).map_err(query_failed)?;
    let mut ends = HashMap::new();
    for topic in metadata.topics().iter().filter(|topic| names.contains(topic.name())) {
        for partition in topic.partitions() {
            let watermarks = consumer.fetch_watermarks(topic.name(), partition.id(), QUERY_MAX);
            ends.insert((topic.name().into(), partition.id()), watermarks.map_err(query_failed)?.1);
        }
    }
    Ok(ends)
}

//! What `embedmill check` reports about the source's topics and its group.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{QUERY_MAX, operation_failed, query_with_timeout};
use super::group::{GroupContext, offset_list};
use super::until_end::end_offsets;
use crate::kafka::KafkaError;
use crate::kafka::config::KafkaSourceConfig;

/// One line per topic: its partitions, and the group's lag.
pub(super) fn source(
    consumer: &BaseConsumer<GroupContext>,
    config: &KafkaSourceConfig,
) -> Result<Vec<String>, KafkaError> {
    let mut ends: Vec<_> = end_offsets(consumer, &config.topics)?.into_iter().collect();
    ends.sort();
    if ends.is_empty() {
        let topics = config.topics.join(", ");
        return Ok(vec![format!("no topic matches {topics} yet; matching topics are read once they exist")]);
    }
    let subject = format!("source.kafka: group {:?}", config.group);
    let serve = || drop(consumer.poll(Duration::ZERO));
    let committed = query_with_timeout(&subject, &consumer.context().refusal, serve, |wait| {
        let committed = consumer.committed_offsets(offset_list(&ends), wait)?;
        committed.elements().iter().try_for_each(|element| element.error())?;
        Ok(committed)
    })?;
    let mut lines = Vec::new();
    for of_topic in ends.chunk_by(|((topic, _), _), ((next, _), _)| topic == next) {
        let topic = &of_topic[0].0.0;
        let mut lag = 0;
        for ((_, number), end) in of_topic {
            let next = match committed.find_partition(topic, *number).map(|element| element.offset()) {
                Some(Offset::Offset(next)) => next,
                // Without a committed offset, the lag counts from the partition's first message.
                _ => {
                    let watermarks = consumer.fetch_watermarks(topic, *number, QUERY_MAX);
                    watermarks.map_err(|error| operation_failed(format!("source.kafka: topic {topic:?}"), &error))?.0
                }
            };
            lag += (end - next).max(0);
        }
        let (partitions, group) = (of_topic.len(), &config.group);
        lines.push(format!("topic {topic:?}: {partitions} partitions, group {group:?} lags by about {lag} records"));
    }
    Ok(lines)
}

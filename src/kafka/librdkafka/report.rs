//! What `embedmill check` tells of topics and groups.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{QUERY_MAX, failed, query_with_timeout};
use super::group::{Group, list};
use super::until_end::ends_of;
use crate::kafka::KafkaError;
use crate::kafka::config::KafkaSourceConfig;

/// A line a topic: its partitions, and how many records wait for the group.
pub fn source(consumer: &BaseConsumer<Group>, config: &KafkaSourceConfig) -> Result<Vec<String>, KafkaError> {
    let mut ends: Vec<_> = ends_of(consumer, &config.topics)?.into_iter().collect();
    ends.sort();
    if ends.is_empty() {
        return Ok(vec![format!("no topic matches {} yet; those that come are read", config.topics.join(", "))]);
    }
    let what = format!("source.kafka: group `{}`", config.group);
    let serve = || drop(consumer.poll(Duration::ZERO));
    let committed = query_with_timeout(&what, &consumer.context().refusal, serve, |wait| {
        let committed = consumer.committed_offsets(list(&ends), wait)?;
        committed.elements().iter().try_for_each(|element| element.error())?;
        Ok(committed)
    })?;
    let mut lines = Vec::new();
    let mut of_topic = ends.as_slice();
    while let Some(((topic, _), _)) = of_topic.first() {
        let count = of_topic.iter().take_while(|((name, _), _)| name == topic).count();
        let mut waiting = 0;
        for ((topic, number), end) in &of_topic[..count] {
            let next = match committed.find_partition(topic, *number).map(|element| element.offset()) {
                Some(Offset::Offset(next)) => next,
                _ => {
                    let asked = consumer.fetch_watermarks(topic, *number, QUERY_MAX);
                    asked.map_err(|error| failed(format!("source.kafka: topic `{topic}`"), &error))?.0
                }
            };
            waiting += (end - next).max(0);
        }
        let group = &config.group;
        lines.push(format!("topic {topic}: {count} partitions, about {waiting} records ahead of group {group}"));
        of_topic = &of_topic[count..];
    }
    Ok(lines)
}

//! Checks of the Kafka sections: names, properties, topics that are both read and written, and combinations of a Kafka
//! source with files.

use super::error::{PlanError, refuse};
use super::source_and_sink::{DeadLetterPlan, LocalSink, SinkPlan, SourcePlan, TopicSink};
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, ValueFormat};
use crate::kafka::topic_names::TopicNames;
use crate::kafka::{Cluster, Properties};
use crate::sink::file::Target;
use crate::text::field::RecordPlan;

/// Checks the section `source.kafka`.
pub(crate) fn source(config: &KafkaSourceConfig) -> Result<KafkaSourceConfig, PlanError> {
    if config.brokers.is_empty() {
        return refuse("source.kafka.brokers", BROKERS_MISSING);
    }
    if config.group.is_empty() {
        return refuse("source.kafka.group", "missing; expected the name of a consumer group");
    }
    if config.topics.is_empty() || config.topics.iter().any(String::is_empty) {
        return refuse("source.kafka.topics", "missing; expected at least one topic name, or a pattern such as ^docs");
    }
    TopicNames::new(&config.topics).or_else(|message| refuse("source.kafka.topics", message))?;
    check_properties("source.kafka", &config.properties)?;
    Ok(config.clone())
}

const BROKERS_MISSING: &str = "missing; expected brokers as host:port, separated by commas";

/// Whether the source reads the topic, by name or by pattern.
fn is_read(source: &KafkaSourceConfig, topic: &str) -> bool {
    TopicNames::new(&source.topics).is_ok_and(|names| names.contains(topic))
}

/// Properties that embedmill sets to keep its delivery guarantees, and the key to use instead of each.
const OWN_PROPERTIES: [(&str, &str); 16] = [
    ("acks", "`delivery`"),
    ("auto.offset.reset", "`source.kafka.start`"),
    ("bootstrap.servers", "`brokers`"),
    ("metadata.broker.list", "`brokers`"),
    ("group.id", "`source.kafka.group`"),
    ("enable.auto.commit", "`delivery`"),
    ("enable.auto.offset.store", "`delivery`"),
    ("enable.partition.eof", "`source.kafka.until_end`"),
    ("enable.idempotence", "`delivery`"),
    ("isolation.level", "`delivery`"),
    ("transaction.timeout.ms", "`delivery`"),
    ("partition.assignment.strategy", "`delivery`"),
    ("group.protocol", "`delivery`"),
    ("message.max.bytes", "the topic's `max.message.bytes`"),
    ("transactional.id", "`delivery`"),
    ("partitioner", "`sink.kafka.layout`"),
];

fn check_properties(section: &str, properties: &Properties) -> Result<(), PlanError> {
    match OWN_PROPERTIES.iter().find(|(name, _)| properties.contains_key(*name)) {
        Some((name, instead)) => refuse(
            &format!("{section}.properties"),
            format!("{name:?} is set by embedmill itself; use {instead} instead"),
        ),
        None => Ok(()),
    }
}

/// Checks the section `sink.kafka`.
pub(crate) fn sink(config: &KafkaSinkConfig, source: &SourcePlan) -> Result<SinkPlan, PlanError> {
    if config.topic.is_empty() {
        return refuse("sink.kafka.topic", "missing; expected a topic name");
    }
    check_properties("sink.kafka", &config.properties)?;
    let mut cluster = match (&config.brokers, source) {
        (Some(brokers), _) => Cluster { brokers: brokers.clone(), properties: Properties::new() },
        (None, SourcePlan::Kafka(kafka)) => kafka.cluster(),
        (None, SourcePlan::Files(_)) => return refuse("sink.kafka.brokers", BROKERS_MISSING),
    };
    cluster.properties.extend(config.properties.clone());
    if let SourcePlan::Kafka(kafka) = source
        && is_read(kafka, &config.topic)
    {
        let message = format!(
            "{:?} is also read by source.kafka.topics; expected a topic that the source does not read (embedmill would \
             read its own output)",
            config.topic
        );
        return refuse("sink.kafka.topic", message);
    }
    Ok(SinkPlan::Kafka(TopicSink { config: config.clone(), cluster }))
}

/// Checks `dead_letter.topic` against source and sink.
pub(crate) fn dead_letter(topic: &str, source: &SourcePlan, sink: &SinkPlan) -> Result<DeadLetterPlan, PlanError> {
    let is_written = matches!(sink, SinkPlan::Kafka(sink) if sink.config.topic == topic);
    let is_read = matches!(source, SourcePlan::Kafka(kafka) if is_read(kafka, topic));
    match (source, sink) {
        (SourcePlan::Files(_), SinkPlan::Local(_)) => {
            refuse("dead_letter.topic", "neither source nor sink is Kafka; expected dead_letter.path")
        }
        _ if topic.is_empty() => refuse("dead_letter.topic", "missing; expected a topic name"),
        _ if is_written => {
            refuse("dead_letter.topic", format!("{topic:?} is also the sink's topic; expected another one"))
        }
        _ if is_read => refuse(
            "dead_letter.topic",
            format!("{topic:?} is also read by source.kafka.topics; expected a topic that the source does not read"),
        ),
        _ => Ok(DeadLetterPlan::Topic(topic.into())),
    }
}

/// Refuses Arrow messages without `record.id`: all rows of a message would get the message's offset as their id.
pub(crate) fn check_ids(source: &SourcePlan, record: &RecordPlan) -> Result<(), PlanError> {
    match source {
        SourcePlan::Kafka(kafka) if kafka.format == ValueFormat::Arrow && record.id.is_none() => refuse(
            "record.id",
            "missing; expected the name of a column (with source.kafka.format: arrow a message holds many rows, which need \
             ids of their own)",
        ),
        _ => Ok(()),
    }
}

/// Refuses single output files with a Kafka source: a later run would replace the file of an earlier one, whose offsets
/// are committed.
pub(crate) fn check_files(source: &SourcePlan, sink: &SinkPlan) -> Result<(), PlanError> {
    match (source, sink) {
        (SourcePlan::Kafka(_), SinkPlan::Local(LocalSink::Ranges(_))) => refuse(
            "sink.ranges",
            "not possible with source.kafka; expected source.files (a later run would replace the file although its offsets \
             are committed)",
        ),
        (SourcePlan::Kafka(_), SinkPlan::Local(LocalSink::Files { format, target: Target::File(path) })) => refuse(
            &format!("sink.{}.path", format.extension()),
            format!(
                "found a single file; expected a folder, such as {}/ (rows of a Kafka topic go to many files, each named by its \
                 first offset)",
                path.display()
            ),
        ),
        _ => Ok(()),
    }
}

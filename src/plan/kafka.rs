//! What a plan refuses of Kafka's sections: names, properties, loops, and what files of topics cannot be.

use super::{DeadLetterPlan, LocalSink, PlanError, SinkPlan, SourcePlan, TopicSink, refuse};
use crate::kafka::Cluster;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Properties, ValueFormat};
use crate::kafka::topic_names::TopicNames;
use crate::sink::file::Target;
use crate::text::field::RecordPlan;

pub fn source(config: &KafkaSourceConfig) -> Result<KafkaSourceConfig, PlanError> {
    for (key, value) in [("brokers", &config.brokers), ("group", &config.group)] {
        if value.is_empty() {
            return refuse(&format!("source.kafka.{key}"), "expected a name, found nothing");
        }
    }
    if config.topics.is_empty() || config.topics.iter().any(String::is_empty) {
        return refuse("source.kafka.topics", "expected at least one topic's name, or a pattern such as ^docs");
    }
    TopicNames::new(&config.topics).or_else(|message| refuse("source.kafka.topics", message))?;
    check_properties("source.kafka", &config.properties)?;
    Ok(config.clone())
}

/// Whether the source reads the topic, by its name or by a pattern.
fn is_read(source: &KafkaSourceConfig, topic: &str) -> bool {
    TopicNames::new(&source.topics).is_ok_and(|names| names.contains(topic))
}

/// Properties that embedmill's promises rest on, and the key to use instead.
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
        Some((name, instead)) => {
            refuse(&format!("{section}.properties"), format!("`{name}` is set by embedmill itself; see {instead}"))
        }
        None => Ok(()),
    }
}

pub fn sink(config: &KafkaSinkConfig, source: &SourcePlan) -> Result<SinkPlan, PlanError> {
    if config.topic.is_empty() {
        return refuse("sink.kafka.topic", "expected a topic's name, found nothing");
    }
    check_properties("sink.kafka", &config.properties)?;
    let mut cluster = match (&config.brokers, source) {
        (Some(brokers), _) => Cluster { brokers: brokers.clone(), properties: Properties::new() },
        (None, SourcePlan::Kafka(kafka)) => kafka.cluster(),
        (None, SourcePlan::Files(_)) => return refuse("sink.kafka.brokers", "expected brokers as host:port"),
    };
    cluster.properties.extend(config.properties.clone());
    if let SourcePlan::Kafka(kafka) = source
        && is_read(kafka, &config.topic)
    {
        let message = "is one of the source's topics, or matches their pattern; embedmill would read what it writes";
        return refuse("sink.kafka.topic", message);
    }
    Ok(SinkPlan::Kafka(TopicSink { config: config.clone(), cluster }))
}

pub fn dead_letter(topic: &str, source: &SourcePlan, sink: &SinkPlan) -> Result<DeadLetterPlan, PlanError> {
    let is_written = matches!(sink, SinkPlan::Kafka(sink) if sink.config.topic == topic);
    let is_read = matches!(source, SourcePlan::Kafka(kafka) if is_read(kafka, topic));
    match (source, sink) {
        (SourcePlan::Files(_), SinkPlan::Local(_)) => {
            refuse("dead_letter.topic", "needs Kafka as source or sink, whose cluster it is of; expected `path`")
        }
        _ if topic.is_empty() || is_written || is_read => refuse(
            "dead_letter.topic",
            "expected a topic of its own, which is not the sink's and which the source does not read",
        ),
        _ => Ok(DeadLetterPlan::Topic(topic.into())),
    }
}

/// Rows of one message would all get the message's position as their id.
pub fn check_ids(source: &SourcePlan, record: &RecordPlan) -> Result<(), PlanError> {
    match source {
        SourcePlan::Kafka(kafka) if kafka.format == ValueFormat::Arrow && record.id.is_none() => refuse(
            "record.id",
            "is needed with source.kafka.format: arrow, where a message holds many rows; name a column",
        ),
        _ => Ok(()),
    }
}

/// One file would replace an earlier run's, with rows whose positions are committed.
pub fn check_files(source: &SourcePlan, sink: &SinkPlan) -> Result<(), PlanError> {
    match (source, sink) {
        (SourcePlan::Kafka(_), SinkPlan::Local(LocalSink::Ranges(_))) => refuse(
            "sink.ranges",
            "a later run would replace the file, though its positions are committed; calibrate with files",
        ),
        (SourcePlan::Kafka(_), SinkPlan::Local(LocalSink::Files { format, target: Target::File(path) })) => refuse(
            &format!("sink.{}.path", format.extension()),
            format!(
                "rows of a Kafka topic go to many files, each named by the positions that it holds; expected a folder: {}/",
                path.display()
            ),
        ),
        _ => Ok(()),
    }
}

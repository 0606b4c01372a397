//! `source.kafka:` and `sink.kafka:` in the pipeline file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cluster;

/// Properties of librdkafka by their own names, over what embedmill sets: `security.protocol`, `sasl.username`, … A
/// secret belongs in the environment: `sasl.password: ${KAFKA_PASSWORD:?}`.
pub type Properties = BTreeMap<String, String>;

/// `source.kafka:` in the pipeline file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSourceConfig {
    /// Brokers to ask first, as `host:port`, separated by commas.
    pub brokers: String,
    /// Topics; a name that begins with ^ is a pattern.
    pub topics: Vec<String>,
    /// The consumer group: its members share the partitions.
    pub group: String,
    /// What a message's value is.
    pub format: ValueFormat,
    /// Where to begin in a partition of which the group has committed nothing.
    pub start: StartAt,
    /// Whether to stop once the topics are read to their ends.
    pub until_end: bool,
    /// How long a partition that is taken away may wait for what was read of it to be published, in milliseconds.
    pub revoke_drain_ms: u64,
    pub properties: Properties,
}

impl Default for KafkaSourceConfig {
    fn default() -> Self {
        KafkaSourceConfig {
            brokers: String::new(),
            topics: Vec::new(),
            group: String::new(),
            format: ValueFormat::Json,
            start: StartAt::Earliest,
            until_end: false,
            revoke_drain_ms: 10_000,
            properties: Properties::new(),
        }
    }
}

impl KafkaSourceConfig {
    /// The cluster, with all properties: for the consumer.
    pub fn consumer_cluster(&self) -> Cluster {
        Cluster { brokers: self.brokers.clone(), properties: self.properties.clone() }
    }

    /// The cluster, with the properties that say how to connect: for other clients of it.
    pub fn cluster(&self) -> Cluster {
        Cluster { brokers: self.brokers.clone(), properties: self.connection() }
    }

    /// What of the properties says how to connect; a producer of the same cluster needs it too.
    pub fn connection(&self) -> Properties {
        let connects = |name: &str| {
            ["security.", "sasl.", "ssl.", "socket.", "broker.", "client."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        let kept = self.properties.iter().filter(|(name, _)| connects(name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// What a message's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// One JSON document.
    Json,
    /// UTF-8 text; its one field is called `text`.
    Text,
    /// An Arrow IPC stream of any number of rows. They travel together: if one of them cannot be embedded, the message
    /// goes to the dead letters whole.
    Arrow,
}

/// Where to begin in a partition of which the group has committed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum StartAt {
    Earliest,
    Latest,
    /// The first message of that time or later.
    Timestamp {
        milliseconds: i64,
        written: String,
    },
}

impl TryFrom<String> for StartAt {
    type Error = String;

    fn try_from(written: String) -> Result<StartAt, String> {
        match written.as_str() {
            "earliest" => Ok(StartAt::Earliest),
            "latest" => Ok(StartAt::Latest),
            other => match chrono::DateTime::parse_from_rfc3339(other) {
                Ok(time) => Ok(StartAt::Timestamp { milliseconds: time.timestamp_millis(), written }),
                Err(_) => Err(format!(
                    "{other:?} is no place to start at; expected earliest, latest, or a time such as 2026-11-24T08:00:00Z"
                )),
            },
        }
    }
}

impl From<StartAt> for String {
    fn from(start: StartAt) -> String {
        start.as_str().into()
    }
}

impl StartAt {
    pub fn as_str(&self) -> &str {
        match self {
            StartAt::Earliest => "earliest",
            StartAt::Latest => "latest",
            StartAt::Timestamp { written, .. } => written,
        }
    }

    /// Where librdkafka begins on its own. Of a time, the source sees to it; a partition whose committed offset is gone
    /// from the topic begins at what there is.
    pub fn reset(&self) -> &'static str {
        match self {
            StartAt::Latest => "latest",
            StartAt::Earliest | StartAt::Timestamp { .. } => "earliest",
        }
    }
}

/// `sink.kafka:` in the pipeline file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSinkConfig {
    /// Brokers to ask first; left out, the source's, with the source's properties.
    pub brokers: Option<String>,
    pub topic: String,
    pub layout: Layout,
    /// none, gzip, snappy, lz4 or zstd. Vectors hardly compress; texts and kept columns do.
    pub compression: Compression,
    pub properties: Properties,
}

impl Default for KafkaSinkConfig {
    fn default() -> Self {
        KafkaSinkConfig {
            brokers: None,
            topic: String::new(),
            layout: Layout::Batch,
            compression: Compression::None,
            properties: Properties::new(),
        }
    }
}

/// How rows lie in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// As many rows as fit into a message: an Arrow IPC stream of one batch. The partition follows the source's.
    Batch,
    /// One row a message, with the row's id as key, so that a topic can be compacted; a delete is a null value.
    Row,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Names of the properties alone: values may be secrets.
fn names(properties: &Properties) -> Vec<&str> {
    properties.keys().map(String::as_str).collect()
}

impl std::fmt::Debug for KafkaSourceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KafkaSourceConfig { brokers, topics, group, format, start, until_end, revoke_drain_ms, properties } = self;
        f.debug_struct("KafkaSourceConfig")
            .field("brokers", brokers)
            .field("topics", topics)
            .field("group", group)
            .field("format", format)
            .field("start", start)
            .field("until_end", until_end)
            .field("revoke_drain_ms", revoke_drain_ms)
            .field("properties", &names(properties))
            .finish()
    }
}

impl std::fmt::Debug for KafkaSinkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KafkaSinkConfig { brokers, topic, layout, compression, properties } = self;
        f.debug_struct("KafkaSinkConfig")
            .field("brokers", brokers)
            .field("topic", topic)
            .field("layout", layout)
            .field("compression", compression)
            .field("properties", &names(properties))
            .finish()
    }
}

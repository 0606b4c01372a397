//! `source.kafka:` and `sink.kafka:` in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Properties};

/// `source.kafka:` in the pipeline file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSourceConfig {
    /// Bootstrap brokers as `host:port`, separated by commas.
    pub brokers: String,
    /// Topic names; a name that begins with ^ is a regular expression.
    pub topics: Vec<String>,
    /// The consumer group, whose members share the partitions.
    pub group: String,
    /// The format of a message's value.
    pub format: ValueFormat,
    /// Where to start in a partition for which the group has no committed offset.
    pub start: StartAt,
    /// Whether to stop once every partition is read to the end that it had at the start.
    pub until_end: bool,
    /// How long a revocation waits for the records that were read from its partitions to be published, in milliseconds.
    pub revoke_drain_ms: u64,
    /// librdkafka's properties.
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
    /// The cluster with all properties, for the consumer.
    pub fn consumer_cluster(&self) -> Cluster {
        Cluster { brokers: self.brokers.clone(), properties: self.properties.clone() }
    }

    /// The cluster with only the properties that say how to connect, for other clients of it.
    pub fn cluster(&self) -> Cluster {
        Cluster { brokers: self.brokers.clone(), properties: self.connection_properties() }
    }

    /// The properties that say how to connect; a producer of the same cluster needs them too.
    fn connection_properties(&self) -> Properties {
        let is_about_connecting = |name: &str| {
            ["security.", "sasl.", "ssl.", "socket.", "broker.", "client."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        let kept = self.properties.iter().filter(|(name, _)| is_about_connecting(name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// The format of a message's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// One JSON document.
    Json,
    /// UTF-8 text, which becomes the record's only field, `text`.
    Text,
    /// An Arrow IPC stream with any number of rows. They stay together: if one of them cannot be embedded, the whole
    /// message goes to the dead letters.
    Arrow,
}

/// Where to start in a partition for which the group has no committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum StartAt {
    /// The first message of the partition.
    Earliest,
    /// The first message that arrives after the start.
    Latest,
    /// The first message with this timestamp or a later one.
    Timestamp { milliseconds: i64, written: String },
}

impl TryFrom<String> for StartAt {
    type Error = String;

    fn try_from(written: String) -> Result<StartAt, String> {
        match written.as_str() {
            "earliest" => Ok(StartAt::Earliest),
            "latest" => Ok(StartAt::Latest),
            other => match chrono::DateTime::parse_from_rfc3339(other) {
                Ok(time) => Ok(StartAt::Timestamp { milliseconds: time.timestamp_millis(), written }),
                Err(_) => {
                    Err(format!("found {other:?}; expected earliest, latest, or a time such as 2026-11-24T08:00:00Z"))
                }
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
    /// As the pipeline file has it.
    pub fn as_str(&self) -> &str {
        match self {
            StartAt::Earliest => "earliest",
            StartAt::Latest => "latest",
            StartAt::Timestamp { written, .. } => written,
        }
    }

    /// librdkafka's `auto.offset.reset`. It applies to a partition whose committed offset no longer exists in the topic;
    /// the source itself resolves a missing offset, and thus a time.
    pub fn auto_offset_reset(&self) -> &'static str {
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
    /// Bootstrap brokers. Without them the source's brokers and connection properties are used.
    pub brokers: Option<String>,
    /// The topic that rows are written to.
    pub topic: String,
    /// How rows are arranged in messages.
    pub layout: Layout,
    /// none, gzip, snappy, lz4 or zstd. Vectors hardly compress; texts and kept columns do.
    pub compression: MessageCompression,
    /// librdkafka's properties.
    pub properties: Properties,
}

impl Default for KafkaSinkConfig {
    fn default() -> Self {
        KafkaSinkConfig {
            brokers: None,
            topic: String::new(),
            layout: Layout::Batch,
            compression: MessageCompression::None,
            properties: Properties::new(),
        }
    }
}

/// How rows are arranged in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// As many rows per message as fit, as an Arrow IPC stream of one batch. Rows of one source partition go to one
    /// partition of the topic.
    Batch,
    /// One row per message, with the row's id as key, so that the topic can be compacted. A delete is a null value.
    Row,
}

/// The compression of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageCompression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl MessageCompression {
    /// As the pipeline file and librdkafka have it.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageCompression::None => "none",
            MessageCompression::Gzip => "gzip",
            MessageCompression::Snappy => "snappy",
            MessageCompression::Lz4 => "lz4",
            MessageCompression::Zstd => "zstd",
        }
    }
}

/// The names of the properties without their values, which may be secrets.
fn property_names(properties: &Properties) -> Vec<&str> {
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
            .field("properties", &property_names(properties))
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
            .field("properties", &property_names(properties))
            .finish()
    }
}

//! The two ends of a pipeline and its dead letters: each section names exactly one kind of what stands there. The kinds'
//! own settings lie beside their code.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::sink::file::FileSinkConfig;
use crate::sink::ranges::RangesSinkConfig;
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;

/// `source:` in the pipeline file: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Files, folders, globs, or standard input.
    pub files: Option<FilesConfig>,
    /// Topics of a Kafka cluster, read in a consumer group.
    pub kafka: Option<KafkaSourceConfig>,
}

/// `sink:` in the pipeline file: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// Arrow IPC files.
    pub arrow: Option<FileSinkConfig>,
    /// Parquet files.
    pub parquet: Option<FileSinkConfig>,
    /// Standard output.
    pub stdout: Option<StdoutConfig>,
    /// A Kafka topic.
    pub kafka: Option<KafkaSinkConfig>,
    /// No rows: a calibration file, for `output.ranges`.
    pub ranges: Option<RangesSinkConfig>,
}

/// `dead_letter:` in the pipeline file: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// The file of JSON lines that rejected records are written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The topic that rejected messages are published to as they came: of `sink.kafka`'s cluster, else the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

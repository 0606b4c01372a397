//! The sections `source`, `sink` and `dead_letter` of the pipeline file. Each must name exactly one alternative, which the
//! plan checks. The settings of each alternative are defined beside its code.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::sink::file::FileSinkConfig;
use crate::sink::ranges::RangesSinkConfig;
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;

/// The section `source` of the pipeline file. Exactly one key must be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Reads files, folders, globs or standard input.
    pub files: Option<FilesConfig>,
    /// Reads topics of a Kafka cluster as a member of a consumer group.
    pub kafka: Option<KafkaSourceConfig>,
}

/// The section `sink` of the pipeline file. Exactly one key must be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// Writes Arrow IPC files.
    pub arrow: Option<FileSinkConfig>,
    /// Writes Parquet files.
    pub parquet: Option<FileSinkConfig>,
    /// Writes to standard output.
    pub stdout: Option<StdoutConfig>,
    /// Publishes to a Kafka topic.
    pub kafka: Option<KafkaSinkConfig>,
    /// Writes no rows but a calibration file for `output.ranges`, as `embedmill calibrate` does.
    pub ranges: Option<RangesSinkConfig>,
}

/// The section `dead_letter` of the pipeline file. Exactly one key must be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// The file that rejected records are written to, as JSON lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The topic that rejected messages are published to unchanged. It belongs to the cluster of `sink.kafka`, or else to
    /// that of `source.kafka`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

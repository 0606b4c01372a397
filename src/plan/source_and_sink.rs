//! The ends of a planned pipeline: where records come from, and where rows and rejected records go.

use std::path::PathBuf;

use crate::kafka::Cluster;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Layout};
use crate::sink::file::Target;
use crate::sink::format::FileFormat;
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;

/// The source of records.
#[derive(Debug, Clone, PartialEq)]
pub enum SourcePlan {
    /// Files, folders, globs or standard input.
    Files(FilesConfig),
    /// Topics of a Kafka cluster.
    Kafka(KafkaSourceConfig),
}

/// The destination of rejected records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPlan {
    /// A file of JSON lines at this path.
    File(PathBuf),
    /// The topic of this name.
    Topic(String),
}

impl DeadLetterPlan {
    /// The topic of dead letters; `None` if they go to a file.
    pub fn topic(&self) -> Option<&str> {
        match self {
            DeadLetterPlan::File(_) => None,
            DeadLetterPlan::Topic(topic) => Some(topic),
        }
    }
}

/// The destination of rows.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkPlan {
    /// A sink on this machine.
    Local(LocalSink),
    /// A Kafka topic.
    Kafka(TopicSink),
}

/// A sink on this machine.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalSink {
    /// Arrow or Parquet files.
    Files {
        /// The file format.
        format: FileFormat,
        /// A single file, or a folder of files.
        target: Target,
    },
    /// Standard output.
    Stdout(StdoutConfig),
    /// No rows, but a calibration file at this path.
    Ranges(PathBuf),
}

/// A Kafka topic that rows are published to.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSink {
    /// The section `sink.kafka`.
    pub config: KafkaSinkConfig,
    /// The cluster named by the sink, or else that of the source.
    pub cluster: Cluster,
}

impl From<LocalSink> for SinkPlan {
    fn from(sink: LocalSink) -> Self {
        SinkPlan::Local(sink)
    }
}

impl SourcePlan {
    /// The maximum size of a record in bytes; `None` if the source has limits of its own, as Kafka does.
    pub(super) fn record_bytes_max(&self) -> Option<usize> {
        match self {
            SourcePlan::Files(files) => Some(files.record_bytes_max),
            SourcePlan::Kafka(_) => None,
        }
    }
}

impl SinkPlan {
    /// Whether the sink can publish deletes.
    pub fn takes_deletes(&self) -> bool {
        matches!(self, SinkPlan::Kafka(sink) if sink.config.layout == Layout::Row)
    }

    /// Whether all rows go to a single file.
    pub fn is_single_file(&self) -> bool {
        matches!(self, SinkPlan::Local(LocalSink::Files { target: Target::File(_), .. } | LocalSink::Ranges(_)))
    }

    pub(super) fn is_ranges(&self) -> bool {
        matches!(self, SinkPlan::Local(LocalSink::Ranges(_)))
    }
}

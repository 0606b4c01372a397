//! Checks of the two ends of a pipeline: exactly one source, exactly one sink, and dead letters that overwrite neither.
//!
//! In:    the sections `source`, `sink` and `dead_letter`. Out: the same as enums without invalid combinations.
//! Fails: with the key and what was expected. Nothing is opened.

use std::path::PathBuf;

use super::{PlanError, kafka, refuse};
use crate::config::{DeadLetterConfig, SinkConfig, SourceConfig};
use crate::kafka::Cluster;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Layout};
use crate::sink::file::{FileSinkConfig, Target};
use crate::sink::format::FileFormat;
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;

/// The source of records.
#[derive(Debug, Clone, PartialEq)]
pub enum SourcePlan {
    Files(FilesConfig),
    Kafka(KafkaSourceConfig),
}

/// The destination of rejected records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPlan {
    File(PathBuf),
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
    Local(LocalSink),
    Kafka(TopicSink),
}

/// A sink on this machine.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalSink {
    Files {
        format: FileFormat,
        target: Target,
    },
    Stdout(StdoutConfig),
    /// No rows, but a calibration file at this path.
    Ranges(PathBuf),
}

/// A Kafka topic that rows are published to.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSink {
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

/// Checks the section `source`.
pub(super) fn source(config: &SourceConfig) -> Result<SourcePlan, PlanError> {
    match (&config.files, &config.kafka) {
        (Some(files), None) => {
            files.check().or_else(|(key, message)| refuse(&format!("source.files.{key}"), message))?;
            Ok(SourcePlan::Files(files.clone()))
        }
        (None, Some(kafka)) => kafka::source(kafka).map(SourcePlan::Kafka),
        (None, None) => refuse("source", "missing; expected one of files, kafka"),
        (Some(_), Some(_)) => refuse("source", "more than one source; expected exactly one of files, kafka"),
    }
}

/// Gives the checkpoint and the single output files of a shard names of their own. Folders need none, because their files
/// are named by positions, and each position belongs to one shard.
pub(super) fn with_shard_names(
    mut source: SourcePlan,
    mut sink: SinkPlan,
    mut dead_letter: Option<DeadLetterPlan>,
) -> (SourcePlan, SinkPlan, Option<DeadLetterPlan>) {
    if let SourcePlan::Files(FilesConfig { shard: Some(shard), checkpoint, .. }) = &mut source {
        *checkpoint = checkpoint.take().map(|name| shard.name(&name));
        if let SinkPlan::Local(LocalSink::Files { target: Target::File(path), .. } | LocalSink::Ranges(path)) =
            &mut sink
        {
            *path = shard.path(path);
        }
        if let Some(DeadLetterPlan::File(path)) = &mut dead_letter {
            *path = shard.path(path);
        }
    }
    (source, sink, dead_letter)
}

/// Checks the section `sink`; a Kafka sink without brokers uses the cluster of `source`.
pub(super) fn sink(config: &SinkConfig, source: &SourcePlan) -> Result<SinkPlan, PlanError> {
    let files = |key: &str, format, FileSinkConfig { path, file_rows, file_seconds }: &FileSinkConfig| {
        if path.is_empty() {
            return refuse(&format!("sink.{key}.path"), "empty; expected the name of a file, or of a folder with a / at its end");
        }
        if *file_rows == 0 {
            return refuse(&format!("sink.{key}.file_rows"), "found 0; expected at least 1");
        }
        if *file_seconds == 0 {
            return refuse(&format!("sink.{key}.file_seconds"), "found 0; expected at least 1");
        }
        Ok(LocalSink::Files { format, target: Target::new(path, *file_rows, *file_seconds) }.into())
    };
    match (&config.arrow, &config.parquet, &config.stdout, &config.kafka, &config.ranges) {
        (Some(arrow), None, None, None, None) => files("arrow", FileFormat::Arrow, arrow),
        (None, Some(parquet), None, None, None) => files("parquet", FileFormat::Parquet, parquet),
        (None, None, Some(stdout), None, None) => Ok(LocalSink::Stdout(stdout.clone()).into()),
        (None, None, None, Some(kafka), None) => kafka::sink(kafka, source),
        (None, None, None, None, Some(ranges)) if ranges.path.as_os_str().is_empty() => {
            refuse("sink.ranges.path", "empty; expected the name of a file")
        }
        (None, None, None, None, Some(ranges)) => Ok(LocalSink::Ranges(ranges.path.clone()).into()),
        (None, None, None, None, None) => {
            refuse("sink", "missing; expected one of arrow, parquet, stdout, kafka, ranges")
        }
        _ => refuse("sink", "more than one sink; expected exactly one of arrow, parquet, stdout, kafka, ranges"),
    }
}

/// Checks the section `dead_letter` against source and sink.
pub(super) fn dead_letter(
    config: &DeadLetterConfig,
    source: &SourcePlan,
    sink: &SinkPlan,
) -> Result<DeadLetterPlan, PlanError> {
    match (&config.path, &config.topic, sink) {
        (Some(path), None, _) if path.as_os_str().is_empty() => refuse("dead_letter.path", "empty; expected the name of a file"),
        (
            Some(path),
            None,
            SinkPlan::Local(LocalSink::Files { target: Target::File(output), .. } | LocalSink::Ranges(output)),
        ) if path == output => {
            refuse("dead_letter.path", "same file as the sink's; expected another file (the one finished last would replace the other)")
        }
        (Some(_), None, _) if matches!(source, SourcePlan::Kafka(_)) => refuse(
            "dead_letter.path",
            "not possible with source.kafka; expected dead_letter.topic (a later run would replace the file although its \
             offsets are committed)",
        ),
        (Some(_), None, _) if matches!(source, SourcePlan::Files(files) if files.checkpoint.is_some()) => refuse(
            "dead_letter.path",
            "not possible with source.files.checkpoint; expected dead_letter.topic (a run that resumes from the \
             checkpoint would replace the file)",
        ),
        (Some(path), None, _) => Ok(DeadLetterPlan::File(path.clone())),
        (None, Some(topic), sink) => kafka::dead_letter(topic, source, sink),
        (None, None, _) => refuse("dead_letter", "empty; expected `path: FILE` or `topic: TOPIC`"),
        (Some(_), Some(_), _) => refuse("dead_letter", "found both path and topic; expected only one of them"),
    }
}

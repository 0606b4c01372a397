//! The ends of a pipeline, checked: exactly one source, exactly one sink, and dead letters that do not overwrite either.

use std::path::PathBuf;

use super::{PlanError, kafka, refuse};
use crate::config::{DeadLetterConfig, SinkConfig, SourceConfig};
use crate::kafka::Cluster;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Layout};
use crate::sink::file::{FileSinkConfig, Target};
use crate::sink::format::FileFormat;
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourcePlan {
    Files(FilesConfig),
    Kafka(KafkaSourceConfig),
}

/// Where rejected records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPlan {
    File(PathBuf),
    Topic(String),
}

impl DeadLetterPlan {
    pub fn topic(&self) -> Option<&str> {
        match self {
            DeadLetterPlan::File(_) => None,
            DeadLetterPlan::Topic(topic) => Some(topic),
        }
    }
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkPlan {
    Local(LocalSink),
    Kafka(TopicSink),
}

/// A sink of this machine.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalSink {
    Files {
        format: FileFormat,
        target: Target,
    },
    Stdout(StdoutConfig),
    /// A calibration file.
    Ranges(PathBuf),
}

/// A topic that rows are published to.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSink {
    pub config: KafkaSinkConfig,
    /// The sink's own, or the source's.
    pub cluster: Cluster,
}

impl From<LocalSink> for SinkPlan {
    fn from(sink: LocalSink) -> Self {
        SinkPlan::Local(sink)
    }
}

impl SourcePlan {
    /// Most bytes that one record may have; `None` where the source's own limits hold.
    pub(super) fn record_bytes_max(&self) -> Option<usize> {
        match self {
            SourcePlan::Files(files) => Some(files.record_bytes_max),
            SourcePlan::Kafka(_) => None,
        }
    }
}

impl SinkPlan {
    /// Whether it can say that a record is deleted.
    pub fn takes_deletes(&self) -> bool {
        matches!(self, SinkPlan::Kafka(sink) if sink.config.layout == Layout::Row)
    }

    /// Whether all rows go to one file.
    pub fn is_single_file(&self) -> bool {
        matches!(self, SinkPlan::Local(LocalSink::Files { target: Target::File(_), .. } | LocalSink::Ranges(_)))
    }

    pub(super) fn is_ranges(&self) -> bool {
        matches!(self, SinkPlan::Local(LocalSink::Ranges(_)))
    }
}

pub(super) fn source(config: &SourceConfig) -> Result<SourcePlan, PlanError> {
    match (&config.files, &config.kafka) {
        (Some(files), None) => {
            files.check().or_else(|(key, message)| refuse(&format!("source.files.{key}"), message))?;
            Ok(SourcePlan::Files(files.clone()))
        }
        (None, Some(kafka)) => kafka::source(kafka).map(SourcePlan::Kafka),
        (None, None) => refuse("source", "no source is given; expected one of files, kafka"),
        (Some(_), Some(_)) => refuse("source", "more than one source is given; expected one of files, kafka"),
    }
}

/// OutputKind a shard's checkpoint and the single files that it writes names of their own. Folders need none: their files are
/// named by positions, which are of one shard only.
pub(super) fn with_names_of_shards(
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

pub(super) fn sink(config: &SinkConfig, source: &SourcePlan) -> Result<SinkPlan, PlanError> {
    let files = |key: &str, format, FileSinkConfig { path, file_rows, file_seconds }: &FileSinkConfig| {
        if path.is_empty() {
            return refuse(&format!("sink.{key}.path"), "expected a file's name, or a folder's that ends with /");
        }
        if *file_rows == 0 {
            return refuse(&format!("sink.{key}.file_rows"), "expected at least 1, found 0");
        }
        if *file_seconds == 0 {
            return refuse(&format!("sink.{key}.file_seconds"), "expected at least 1, found 0");
        }
        Ok(LocalSink::Files { format, target: Target::new(path, *file_rows, *file_seconds) }.into())
    };
    match (&config.arrow, &config.parquet, &config.stdout, &config.kafka, &config.ranges) {
        (Some(arrow), None, None, None, None) => files("arrow", FileFormat::Arrow, arrow),
        (None, Some(parquet), None, None, None) => files("parquet", FileFormat::Parquet, parquet),
        (None, None, Some(stdout), None, None) => Ok(LocalSink::Stdout(stdout.clone()).into()),
        (None, None, None, Some(kafka), None) => kafka::sink(kafka, source),
        (None, None, None, None, Some(ranges)) if ranges.path.as_os_str().is_empty() => {
            refuse("sink.ranges.path", "expected a file's name")
        }
        (None, None, None, None, Some(ranges)) => Ok(LocalSink::Ranges(ranges.path.clone()).into()),
        (None, None, None, None, None) => {
            refuse("sink", "no sink is given; expected one of arrow, parquet, stdout, kafka, ranges")
        }
        _ => refuse("sink", "more than one sink is given; expected one of arrow, parquet, stdout, kafka, ranges"),
    }
}

pub(super) fn dead_letter(
    config: &DeadLetterConfig,
    source: &SourcePlan,
    sink: &SinkPlan,
) -> Result<DeadLetterPlan, PlanError> {
    match (&config.path, &config.topic, sink) {
        (Some(path), None, _) if path.as_os_str().is_empty() => refuse("dead_letter.path", "expected a file's name"),
        (
            Some(path),
            None,
            SinkPlan::Local(LocalSink::Files { target: Target::File(output), .. } | LocalSink::Ranges(output)),
        ) if path == output => {
            refuse("dead_letter.path", "is the same file as the sink's; the later one would replace the other")
        }
        (Some(_), None, _) if matches!(source, SourcePlan::Kafka(_)) => refuse(
            "dead_letter.path",
            "a later run would replace the file, though its positions are committed; name a topic",
        ),
        (Some(_), None, _) if matches!(source, SourcePlan::Files(files) if files.checkpoint.is_some()) => {
            refuse("dead_letter.path", "a run that goes on from the checkpoint would replace the file; name a topic")
        }
        (Some(path), None, _) => Ok(DeadLetterPlan::File(path.clone())),
        (None, Some(topic), sink) => kafka::dead_letter(topic, source, sink),
        (None, None, _) => refuse("dead_letter", "expected `path: FILE` or `topic: TOPIC`"),
        (Some(_), Some(_), _) => refuse("dead_letter", "expected one of path and topic, found both"),
    }
}

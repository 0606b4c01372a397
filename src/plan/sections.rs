//! Checks of sections of the pipeline file: exactly one source, exactly one sink, dead letters that overwrite neither, and
//! limits that fit together.
//!
//! In:    sections of the configuration. Out: the ends of the plan, as enums without invalid combinations.
//! Fails: with the key and what was expected. Nothing is opened.

use super::error::{PlanError, refuse};
use super::kafka;
use super::source_and_sink::{DeadLetterPlan, LocalSink, SinkPlan, SourcePlan};
use crate::config::{DeadLetterConfig, SinkConfig, SourceConfig};
use crate::model::OutputValue;
use crate::output::quantize::OutputPrecision;
use crate::sink::file::{FileSinkConfig, Target};
use crate::sink::format::FileFormat;
use crate::source::file::FilesConfig;
use crate::window::WindowConfig;

/// Arrow's string columns have 32-bit offsets, so the texts of a window must stay well below 2 GiB.
const WINDOW_BYTES_MAX: usize = 1 << 30;

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
            return refuse(
                &format!("sink.{key}.path"),
                "empty; expected the name of a file, or of a folder with a / at its end",
            );
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
        (Some(path), None, _) if path.as_os_str().is_empty() => {
            refuse("dead_letter.path", "empty; expected the name of a file")
        }
        (
            Some(path),
            None,
            SinkPlan::Local(LocalSink::Files { target: Target::File(output), .. } | LocalSink::Ranges(output)),
        ) if path == output => refuse(
            "dead_letter.path",
            "same file as the sink's; expected another file (the one finished last would replace the other)",
        ),
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

/// Refuses limits of 0.
pub(super) fn check_not_zero<const N: usize>(values: [(&str, usize); N]) -> Result<(), PlanError> {
    match values.into_iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => refuse(key, "found 0; expected at least 1"),
        None => Ok(()),
    }
}

/// Refuses token vectors in a precision that needs ranges, and calibration of anything but float32 vectors of texts.
pub(super) fn check_output(value: OutputValue, precision: OutputPrecision, sink: &SinkPlan) -> Result<(), PlanError> {
    if value == OutputValue::TokenEmbeddings && sink.is_ranges() {
        let message = "found token_embeddings; expected sentence_embedding with sink.ranges, which calibrates the vectors \
                       of texts";
        return refuse("output.value", message);
    }
    if precision == OutputPrecision::Float32 {
        return Ok(());
    }
    if value == OutputValue::TokenEmbeddings {
        let reason = "output.value: token_embeddings (quantization ranges are those of the vectors of texts)";
        return refuse("output.precision", format!("found {precision}; expected float32 with {reason}"));
    }
    if sink.is_ranges() {
        let message = format!("found {precision}; expected float32 with sink.ranges, which calibrates float32 vectors");
        return refuse("output.precision", message);
    }
    Ok(())
}

/// Checks the limits of a window, also against the largest record that `source` may give.
pub(super) fn check_window(window: &WindowConfig, source: &SourcePlan) -> Result<(), PlanError> {
    check_not_zero([
        ("window.tokens", window.tokens),
        ("window.records", window.records),
        ("window.bytes", window.bytes),
    ])?;
    if window.bytes > WINDOW_BYTES_MAX {
        return refuse("window.bytes", format!("found {}; expected at most {WINDOW_BYTES_MAX}", window.bytes));
    }
    if let Some(record_bytes_max) = source.record_bytes_max().filter(|bytes| window.in_flight_bytes < *bytes) {
        let message = format!(
            "found {}; expected at least {record_bytes_max}, the value of source.files.record_bytes_max, so that every \
             record fits",
            window.in_flight_bytes
        );
        return refuse("window.in_flight_bytes", message);
    }
    Ok(())
}

//! Where rows go. A sink gets whole windows in order, on the delivery thread, and may block.

pub mod file;
pub mod format;
pub mod memory;
pub mod partition_files;
pub mod ranges;
pub mod stdout;
pub mod whole_file;

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columnar::output::Output;
use crate::dead_letter::DeadLetter;
use crate::encode::OutputValue;
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::config::KafkaSinkConfig;
use crate::quantize::{OutputPrecision, RangesConfig};
use crate::record::Block;
use crate::window::Window;
use file::FileSinkConfig;
use ranges::RangesSinkConfig;
use stdout::StdoutConfig;

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

/// `output:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Whether the text that was embedded is a column; search results show it.
    pub text: bool,
    /// What a text becomes, by sentence-transformers' names: `sentence_embedding`, its vector in the column `vector`, or
    /// `token_embeddings`, the vectors of its tokens in the column `token_vectors`.
    pub value: OutputValue,
    /// What vectors are written as: float32, int8, uint8, or a bit a value as binary or ubinary.
    pub precision: OutputPrecision,
    /// Of int8 and uint8: between which numbers the values lie, as [LEAST, MOST] or a file that `embedmill calibrate` made.
    pub ranges: Option<RangesConfig>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        OutputConfig {
            text: true,
            value: OutputValue::SentenceEmbedding,
            precision: OutputPrecision::Float32,
            ranges: None,
        }
    }
}

/// A window's rows, as they go to a sink.
#[derive(Clone, Copy)]
pub struct WindowRows<'a> {
    pub window: &'a Window,
    pub output: &'a Output,
    /// Of each block of the window, whether it is still ours to publish; a sink that may publish a row twice need not ask.
    pub ours: &'a [bool],
    /// The context of the window's trace, where there is one, as messages carry it.
    pub traceparent: Option<&'a str>,
}

/// One block of a window on its way to a sink.
#[derive(Debug, Clone)]
pub struct BlockRows<'a> {
    pub block: &'a Block,
    pub is_ours: bool,
    /// The block's first row, counted in the window.
    pub first_row: usize,
    /// The block's rows that have a vector, as rows of the output.
    pub output: Range<usize>,
}

impl<'a> WindowRows<'a> {
    /// The blocks in source order.
    pub fn blocks(self) -> impl Iterator<Item = BlockRows<'a>> {
        let mut first_row = 0;
        self.window.blocks.iter().zip(self.ours).map(move |(block, &is_ours)| {
            let rows = first_row..first_row + block.rows();
            let output = self.output.rows_before(rows.start)..self.output.rows_before(rows.end);
            first_row = rows.end;
            BlockRows { block, is_ours, first_row: rows.start, output }
        })
    }
}

/// Takes rows, window by window.
///
/// Dropping a sink that was not finished leaves nothing under a final name but what was whole before.
pub trait Sink: Send {
    /// Takes one window's rows and deletes. Rows that the sink can never take come back as dead letters.
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError>;

    /// Waits until what was written is durable. A file is so only when it is finished, so the plan lets no file take rows
    /// of a source whose positions are committed.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything that was written durable and visible, and says what there is now.
    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError>;
}

/// A file that a sink has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{}: {action}: {cause}", path.display())]
    Io { path: PathBuf, action: &'static str, cause: std::io::Error },
    #[error("{path}: cannot be written: {message}")]
    Format { path: String, message: String },
    #[error("standard output: nobody reads it any more")]
    Closed,
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

impl SinkError {
    pub fn failure(&self) -> Failure {
        match self {
            SinkError::Kafka(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

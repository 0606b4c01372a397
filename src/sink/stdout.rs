//! Rows to standard output, as JSON lines or as one Arrow IPC stream. Each window is flushed when it is written.

use std::io::{ErrorKind, Stdout, Write};

use arrow::ipc::writer::StreamWriter;
use arrow::json::LineDelimitedWriter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Sink, SinkError, WindowRows, Written};
use crate::output::OutputSchema;
use crate::record::DeadLetter;

/// `sink.stdout:` in the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutConfig {
    /// The format of the rows.
    pub format: StdoutFormat,
}

/// The format of rows on standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StdoutFormat {
    /// One JSON object per row.
    #[default]
    Jsonl,
    /// An Arrow IPC stream.
    Arrow,
}

/// Writes rows to standard output.
pub(crate) enum StdoutSink {
    /// As JSON lines.
    Jsonl(Stdout),
    /// As an Arrow IPC stream.
    Arrow(Box<StreamWriter<Stdout>>),
}

impl StdoutSink {
    /// Writes the schema, if the format has one.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn new(config: &StdoutConfig, schema: &OutputSchema) -> Result<Self, SinkError> {
        match config.format {
            StdoutFormat::Jsonl => Ok(StdoutSink::Jsonl(std::io::stdout())),
            StdoutFormat::Arrow => {
                let writer = StreamWriter::try_new(std::io::stdout(), schema.schema()).map_err(arrow_error)?;
                Ok(StdoutSink::Arrow(Box::new(writer)))
            }
        }
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        let batch = &rows.output.batch;
        match self {
            StdoutSink::Jsonl(out) => {
                let mut writer = LineDelimitedWriter::new(Vec::new());
                writer.write(batch).and_then(|()| writer.finish()).map_err(arrow_error)?;
                out.write_all(writer.get_ref()).and_then(|()| out.flush()).map_err(io_error)?;
            }
            StdoutSink::Arrow(writer) => {
                writer.write(batch).and_then(|()| writer.flush()).map_err(arrow_error)?;
            }
        }
        Ok(Vec::new())
    }

    /// Nothing to do: every window was flushed when it was written. Durability is up to the reader of standard output.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        match *self {
            StdoutSink::Jsonl(mut out) => out.flush().map_err(io_error)?,
            StdoutSink::Arrow(mut writer) => {
                writer.finish().and_then(|()| writer.flush()).map_err(arrow_error)?;
            }
        }
        Ok(Vec::new())
    }
}

fn io_error(cause: std::io::Error) -> SinkError {
    match cause.kind() {
        ErrorKind::BrokenPipe => SinkError::Closed,
        _ => SinkError::Io { path: "standard output".into(), action: "cannot be written", cause },
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> SinkError {
    match error {
        arrow::error::ArrowError::IoError(_, cause) => io_error(cause),
        other => SinkError::Format { path: "standard output".into(), message: other.to_string() },
    }
}

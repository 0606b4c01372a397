//! Dead letters: records that cannot become vectors, as they came, with the reason, in a file of JSON lines.
//!
//! The file is written under a temporary name and appears when the run is done, together with the rows; it replaces that
//! of an earlier run, and is empty when no record was rejected.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::{Envelope, Position, Stage};
use crate::sink::SinkError;
use crate::sink::whole_file::WholeFile;

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

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub position: Position,
    pub stage: Stage,
    pub cause: String,
    /// The record as it came; a delete has no value.
    pub raw: Option<bytes::Bytes>,
    /// What came around it in its message; of other sources nothing.
    pub envelope: Option<Envelope>,
}

/// Takes dead letters, window by window. What is published with the rows is durable with them.
pub trait DeadLetterSink: Send {
    fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError>;

    /// Waits until what was written is durable, if it ever is before the end.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything that was written durable and visible.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// A file of JSON lines.
#[derive(Debug)]
pub struct DeadLetterFile {
    file: WholeFile,
}

impl DeadLetterFile {
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Ok(DeadLetterFile { file: WholeFile::create(path)? })
    }
}

impl DeadLetterSink for DeadLetterFile {
    fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError> {
        let mut line = serde_json::json!({
            "source": letter.position.partition.name(),
            "source_offset": letter.position.offset,
            "position": letter.position.to_string(),
            "stage": letter.stage.as_str(),
            "cause": letter.cause,
            "embedmill_version": env!("CARGO_PKG_VERSION"),
        });
        // Bytes that are no text have a key of their own, so that nobody takes one for the other.
        match letter.raw.as_deref().map(|raw| std::str::from_utf8(raw).map_err(|_| raw)) {
            None => line["raw"] = serde_json::Value::Null,
            Some(Ok(text)) => line["raw"] = text.into(),
            Some(Err(raw)) => line["raw_base64"] = BASE64_STANDARD.encode(raw).into(),
        }
        self.file.write_with(|out| writeln!(out, "{line}"))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        self.file.finish().map(drop)
    }
}

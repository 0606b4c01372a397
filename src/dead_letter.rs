//! Dead letters: records that cannot become vectors, as they came, with the reason, in a file of JSON lines.
//!
//! The file is written under a temporary name and appears when the run is done, together with the rows; it replaces that
//! of an earlier run, and is empty when no record was rejected.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::{Position, Stage};
use crate::sink::SinkError;
use crate::sink::whole_file::WholeFile;

/// `dead_letter:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// The file of JSON lines that rejected records are written to.
    pub path: PathBuf,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub position: Position,
    pub stage: Stage,
    pub cause: String,
    /// The record as it came.
    pub raw: bytes::Bytes,
}

/// Where dead letters go.
#[derive(Debug)]
pub struct DeadLetters {
    file: WholeFile,
}

impl DeadLetters {
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Ok(DeadLetters { file: WholeFile::create(path)? })
    }

    pub fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError> {
        let mut line = serde_json::json!({
            "source": letter.position.partition.name(),
            "source_offset": letter.position.offset,
            "position": letter.position.to_string(),
            "stage": letter.stage.as_str(),
            "cause": letter.cause,
            "embedmill_version": env!("CARGO_PKG_VERSION"),
        });
        // Bytes that are no text have a key of their own, so that nobody takes one for the other.
        match std::str::from_utf8(&letter.raw) {
            Ok(text) => line["raw"] = text.into(),
            Err(_) => line["raw_base64"] = BASE64_STANDARD.encode(&letter.raw).into(),
        }
        self.file.write_with(|out| writeln!(out, "{line}"))
    }

    /// Makes the file appear under its name.
    pub fn finish(self) -> Result<(), SinkError> {
        self.file.finish().map(drop)
    }
}

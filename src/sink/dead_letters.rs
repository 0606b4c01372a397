//! Dead letters in a file of JSON lines: rejected records as they were read, each with the reason.
//!
//! The file is written under a temporary name and gets its final name when the run ends, just before the rows do. It
//! replaces the file of an earlier run, and is empty if no record was rejected.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::whole_file::WholeFile;
use super::{DeadLetterSink, SinkError};
use crate::record::DeadLetter;

/// Writes one JSON object per dead letter.
#[derive(Debug)]
pub(crate) struct DeadLetterFile {
    file: WholeFile,
}

impl DeadLetterFile {
    /// Creates the temporary file.
    ///
    /// # Errors
    /// As [`WholeFile::create`].
    pub(crate) fn create(path: &Path) -> Result<Self, SinkError> {
        Ok(DeadLetterFile { file: WholeFile::create(path)? })
    }
}

impl DeadLetterSink for DeadLetterFile {
    fn write(&mut self, dead_letter: &DeadLetter) -> Result<(), SinkError> {
        let mut line = serde_json::json!({
            "source": dead_letter.position.partition.name(),
            "source_offset": dead_letter.position.offset,
            "position": dead_letter.position.to_string(),
            "stage": dead_letter.stage.as_str(),
            "cause": dead_letter.cause,
            "embedmill_version": env!("CARGO_PKG_VERSION"),
        });
        // Bytes that are not UTF-8 have another key, so that base64 is never mistaken for the record itself.
        match dead_letter.raw.as_deref().map(|raw| std::str::from_utf8(raw).map_err(|_| raw)) {
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

//! Dead letters: records that cannot become vectors, as they came, with the reason, in a file of JSON lines.
//!
//! The file is written under a temporary name and appears when the run is done, together with the rows; it replaces that
//! of an earlier run, and is empty when no record was rejected.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::DeadLetterSink;
use crate::record::DeadLetter;
use crate::sink::SinkError;
use crate::sink::whole_file::WholeFile;

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

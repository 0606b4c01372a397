//! `source.files:` in the pipeline file.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Format;
use super::shard::Shard;
use super::sniff::{self, Named};

/// `source.files:` in the pipeline file./// `source.files:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Files, folders, globs such as `corpus/**/*.jsonl.zst`, and `-` for standard input. They are read in this order;
    /// what a folder or a glob holds is sorted by path, and a file named twice is read once.
    pub paths: Vec<String>,
    /// How records are cut out of the input; compression (gzip, zstd, bzip2) is always recognised by content.
    pub format: Format,
    /// What stands between the fields of a CSV file; left out, a comma, and a tab in TSV files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Most bytes of one line, row, JSON value or document. What is longer is not read into memory: it is rejected, as
    /// invalid records are.
    pub record_bytes_max: usize,
    /// With `delivery: exactly_once` into a Kafka topic: the name under which the sink's cluster keeps how far this has
    /// come, as a consumer group's. A run that is started again goes on there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Left out, this run reads all of them; else it is one of several that share them, each input in exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        FilesConfig {
            paths: Vec::new(),
            format: Format::Auto,
            delimiter: None,
            record_bytes_max: 16 << 20,
            checkpoint: None,
            shard: None,
        }
    }
}

impl FilesConfig {
    /// What records are where nothing is read: the format, or what the first path's extension says, or JSON lines.
    pub fn likely_format(&self) -> Format {
        let named = self.paths.first().map(|path| sniff::by_name(Path::new(path)));
        match (self.format, named) {
            (Format::Auto, Some(Named::Format(named))) => named,
            (Format::Auto, Some(Named::SomeJson)) => Format::Json,
            (Format::Auto, _) => Format::Jsonl,
            (given, _) => given,
        }
    }

    /// Checks what can be checked without looking at any file.
    ///
    /// # Errors
    /// The key under `source.files`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.paths.is_empty() {
            return Err(("paths", "expected at least one file, folder, glob or `-`, found an empty list".into()));
        }
        if self.paths.iter().any(String::is_empty) {
            return Err(("paths", "an empty path; name a file, or `.` for the current folder".into()));
        }
        if self.record_bytes_max == 0 {
            return Err(("record_bytes_max", "expected at least 1, found 0".into()));
        }
        if self.checkpoint.as_deref() == Some("") {
            return Err(("checkpoint", "expected a name, found nothing".into()));
        }
        if self.checkpoint.is_some() && self.paths.iter().any(|path| path == "-") {
            return Err(("checkpoint", "standard input cannot be read again; expected files".into()));
        }
        if let Some(shard) = self.shard {
            shard.check()?;
            if self.paths.iter().any(|path| path == "-") {
                return Err(("shard", "standard input cannot be read by several runs; expected files".into()));
            }
        }
        match self.delimiter {
            Some(delimiter) if !delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r' | '\0') => {
                let message = "expected one ASCII character other than a quote or a line end";
                Err(("delimiter", format!("{message}, found {delimiter:?}")))
            }
            _ => Ok(()),
        }
    }
}

//! `source.files:` in the pipeline file: which inputs are read, and how they are split into records.
//!
//! [`FilesConfig::check`] refuses wrong settings without looking at any file.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Format;
use super::shard::Shard;
use super::sniff::{self, NamedFormat};

/// `source.files:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Files, folders, globs such as `corpus/**/*.jsonl.zst`, and `-` for standard input. They are read in this order;
    /// what a folder or a glob holds is sorted by path, and a file named twice is read once.
    pub paths: Vec<String>,
    /// How the input is split into records; compression (gzip, zstd, bzip2) is always detected by content.
    pub format: Format,
    /// The character between the fields of a CSV or TSV file; by default a comma, and a tab in TSV files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Maximum bytes of one line, row, JSON value or document. A longer one is not read into memory; it is rejected
    /// like any invalid record.
    pub record_bytes_max: usize,
    /// With `delivery: exactly_once` into a Kafka topic: the name of the consumer group under which the sink's cluster
    /// stores how far this source has been read. A run that is started again resumes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Makes this run one of several that share the inputs, each input read by exactly one. By default, one run reads
    /// all.
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
    /// The format to assume without opening a file: the one given, else by the first path's extension, else JSON lines.
    pub fn likely_format(&self) -> Format {
        let named = self.paths.first().map(|path| sniff::by_name(Path::new(path)));
        match (self.format, named) {
            (Format::Auto, Some(NamedFormat::Known(named))) => named,
            (Format::Auto, Some(NamedFormat::Json)) => Format::Json,
            (Format::Auto, _) => Format::Jsonl,
            (given, _) => given,
        }
    }

    /// Checks the settings without looking at any file.
    ///
    /// # Errors
    /// The key under `source.files`, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.paths.is_empty() {
            return Err(("paths", "found an empty list; expected at least one file, folder, glob or `-`".into()));
        }
        if self.paths.iter().any(String::is_empty) {
            return Err((
                "paths",
                "found an empty path; expected a file, a folder, a glob or `-` (`.` is the current folder)".into(),
            ));
        }
        if self.record_bytes_max == 0 {
            return Err(("record_bytes_max", "found 0; expected at least 1".into()));
        }
        if self.checkpoint.as_deref() == Some("") {
            return Err(("checkpoint", "found an empty name; expected the name of a consumer group".into()));
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
                let expected = "expected one ASCII character other than a quote or a line end";
                Err(("delimiter", format!("found {delimiter:?}; {expected}")))
            }
            _ => Ok(()),
        }
    }
}

//! The formats of input files, and their names in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an input is split into records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Detected by the file's extension, else by its content.
    #[default]
    Auto,
    /// JSON lines: one JSON object per line.
    Jsonl,
    /// A JSON array of objects, or objects one after the other; each may span several lines.
    Json,
    /// Plain text, one record per line; blank lines are skipped.
    Text,
    /// Plain text, one record per file.
    Document,
    /// Comma-separated rows under a header that names the fields.
    Csv,
    /// Tab-separated rows under a header that names the fields.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, file or stream (also called Feather version 2).
    Arrow,
}

impl Format {
    /// The format's name in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Jsonl => "jsonl",
            Format::Json => "json",
            Format::Text => "text",
            Format::Document => "document",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }
}

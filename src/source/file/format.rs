//! The formats of files, by their names in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How records are cut out of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the file's extension, and by its content where that says nothing.
    #[default]
    Auto,
    /// A JSON object a line.
    Jsonl,
    /// A JSON array of objects, or objects one after the other, over as many lines as they like.
    Json,
    /// A line of plain text a record; blank lines are none.
    Text,
    /// A whole file of plain text a record.
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
    /// As it is written in the pipeline file.
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

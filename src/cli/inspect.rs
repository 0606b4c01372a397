//! `inspect`: prints the metadata, the columns and the first rows of an output file.

use std::fmt::Write;
use std::path::PathBuf;

use crate::output::read::OutputFile;
use clap::Args;
use indicatif::HumanCount;

use super::terminal::print;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  embedmill inspect vectors.arrow --rows 2")]
pub(crate) struct InspectArgs {
    /// Arrow or Parquet file
    #[arg(value_name = "OUT")]
    file: PathBuf,
    /// Number of rows to show
    #[arg(long, default_value_t = 3)]
    rows: usize,
}

/// Values of a vector that are shown; of the others only the number is.
const VALUES_SHOWN: usize = 4;
/// Characters of a text that are shown.
const TEXT_SHOWN: usize = 100;

/// Prints what an output file contains.
pub(crate) fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    let mut file = OutputFile::open(&args.file)?;
    let mut out = String::new();
    let provenance = file.provenance();
    let columns = file.columns();
    let mut shown = Vec::new();
    let mut rows = 0;
    while let Some(table) = file.next_table() {
        let table = table?;
        for row in 0..table.rows().min(args.rows.saturating_sub(shown.len())) {
            shown.push(table.row_value(row));
        }
        rows += table.rows() as u64;
    }
    writeln!(out, "{}: {} rows", args.file.display(), HumanCount(rows))?;
    writeln!(out, "\nmade by")?;
    provenance.iter().try_for_each(|(key, value)| writeln!(out, "  {key:<17}{value}"))?;
    writeln!(out, "\ncolumns")?;
    for (name, data_type, nullable) in columns {
        writeln!(out, "  {name:<17}{data_type}{}", if nullable { ", may be null" } else { "" })?;
    }
    for (index, row) in shown.iter().enumerate() {
        writeln!(out, "\nrow {index}")?;
        for (name, value) in row.as_object().into_iter().flatten() {
            writeln!(out, "  {name:<17}{}", brief(value))?;
        }
    }
    print(&out)
}

/// A value in one line.
fn brief(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(values) if values.len() > VALUES_SHOWN => {
            let first: Vec<String> = values[..VALUES_SHOWN].iter().map(|value| value.to_string()).collect();
            format!("[{}, … {} values]", first.join(", "), values.len())
        }
        serde_json::Value::String(text) => shorten(text, TEXT_SHOWN),
        other => other.to_string(),
    }
}

/// `text` in one line of at most `characters`.
pub(crate) fn shorten(text: &str, characters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

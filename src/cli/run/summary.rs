//! The closing summary of a run.

use std::time::Duration;

use clap::ValueEnum;
use indicatif::{HumanBytes, HumanCount};

use crate::model::ModelSpec;
use crate::pipeline::Summary;

/// The closing summary's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShownAs {
    /// Lines for people
    Text,
    /// One JSON object, for scripts
    Json,
    /// Nothing
    None,
}

pub fn as_text(summary: &Summary, spec: &ModelSpec) -> String {
    let settled = &summary.settled;
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    let rate = |count: u64| HumanCount((count as f64 / seconds).round() as u64);
    let mut text = format!(
        "{} rows from {} records, {} tokens, in {seconds:.1} s: {} records/s, {} tokens/s ({})\n",
        HumanCount(settled.rows),
        HumanCount(settled.records),
        HumanCount(settled.tokens),
        rate(settled.records),
        rate(settled.tokens),
        spec.describe(),
    );
    if settled.truncated_rows > 0 {
        text += &format!(
            "{} texts were longer than {} tokens and lost {} (column `truncated`)\n",
            HumanCount(settled.truncated_rows),
            spec.max_seq_length,
            HumanCount(settled.truncated_tokens)
        );
    }
    if settled.dead_lettered() > 0 {
        text += &format!("{} records were rejected: see the dead letters\n", HumanCount(settled.dead_lettered()));
    }
    if settled.deletes > 0 {
        text += &format!("{} deletes\n", HumanCount(settled.deletes));
    }
    if settled.abandoned > 0 {
        text += &format!("{} records went to other members of the group\n", HumanCount(settled.abandoned));
    }
    if settled.records == 0 {
        text += "warning: there was no record in the input\n";
    }
    if summary.drained {
        text += "stopped before the end of the input\n";
    }
    for file in &summary.written {
        text += &format!("{} ({} rows, {})\n", file.path.display(), HumanCount(file.rows), HumanBytes(file.bytes));
    }
    text
}

pub fn as_json(summary: &Summary, load: Duration) -> serde_json::Value {
    let settled = &summary.settled;
    serde_json::json!({
        "records": settled.records,
        "rows": settled.rows,
        "tokens": settled.tokens,
        "truncated_rows": settled.truncated_rows,
        "truncated_tokens": settled.truncated_tokens,
        "dead_lettered": settled.dead_lettered(),
        "deletes": settled.deletes,
        "abandoned": settled.abandoned,
        "windows": summary.windows,
        "seconds": summary.elapsed.as_secs_f64(),
        "load_seconds": load.as_secs_f64(),
        "drained": summary.drained,
        "written": summary.written.iter().map(|file| serde_json::json!({
            "path": file.path, "rows": file.rows, "bytes": file.bytes,
        })).collect::<Vec<_>>(),
    })
}

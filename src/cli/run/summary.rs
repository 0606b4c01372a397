//! The final summary of a run, as text or as JSON.

use std::time::Duration;

use clap::ValueEnum;
use indicatif::{HumanBytes, HumanCount};

use crate::model::ModelSpec;
use crate::pipeline::Summary;

/// The format of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryFormat {
    /// Text for people
    Text,
    /// One JSON object, for scripts
    Json,
    /// No summary
    None,
}

/// The summary as text: one line of totals, and further lines for what deserves attention.
pub(crate) fn as_text(summary: &Summary, spec: &ModelSpec) -> String {
    let settled = &summary.settled;
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    let rate = |count: u64| HumanCount((count as f64 / seconds).round() as u64);
    let mut text = format!(
        "{} from {}, {}, in {seconds:.1} s: {} records/s, {} tokens/s ({})\n",
        counted(settled.rows, "row"),
        counted(settled.records, "record"),
        counted(settled.tokens, "token"),
        rate(settled.records),
        rate(settled.tokens),
        spec.describe(),
    );
    if settled.truncated_rows > 0 {
        text += &format!(
            "{} truncated to {} tokens, {} lost (see column `truncated`)\n",
            counted(settled.truncated_rows, "text"),
            spec.max_seq_length,
            counted(settled.truncated_tokens, "token")
        );
    }
    if settled.dead_lettered() > 0 {
        text += &format!("{} rejected (see the dead letters)\n", counted(settled.dead_lettered(), "record"));
    }
    if settled.deletes > 0 {
        text += &format!("{}\n", counted(settled.deletes, "delete"));
    }
    if settled.abandoned > 0 {
        text += &format!(
            "{} abandoned: the partitions were revoked, and other consumers read them\n",
            counted(settled.abandoned, "record")
        );
    }
    if settled.records == 0 {
        text += "warning: the input contains no records\n";
    }
    if summary.drained {
        text += "stopped before the end of the input\n";
    }
    for file in &summary.written {
        text += &format!("{} ({}, {})\n", file.path.display(), counted(file.rows, "row"), HumanBytes(file.bytes));
    }
    text
}

/// The summary as one JSON object; `load` is the time that loading the model took.
pub(crate) fn as_json(summary: &Summary, load: Duration) -> serde_json::Value {
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

/// A count and its noun, as in "1 row" and "6,000 rows".
fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

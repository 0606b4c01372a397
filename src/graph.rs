//! A plan drawn: a Mermaid flowchart of its stages, with what each does.
//!
//! The stages and their words are those of [`Plan::lines`]: a stage that is added there is drawn where it stands. Pure.

use std::fmt::Write;

use crate::model::spec::ModelSpec;
use crate::plan::{Plan, SinkPlan, SourcePlan};

/// Lines that are no stage of the data's way: they are drawn beside it, or with another.
const BESIDE: [&str; 6] = ["devices", "rejected", "delivery", "drain", "observe", "traces"];

/// The plan as a Mermaid flowchart. `spec` adds what the model's own files say.
pub fn mermaid(plan: &Plan, spec: Option<&ModelSpec>) -> String {
    let lines = plan.lines(spec);
    let line = |stage: &str| lines.iter().find(|(name, _)| *name == stage).map_or("", |(_, what)| what.as_str());
    let mut text = String::from("flowchart LR\n");
    let mut node = |name: &str, title: &str, what: &[&str], [open, close]: [&str; 2]| {
        let what: String = what.iter().map(|what| format!("<br/>{}", label(what))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}{open}\"<b>{title}</b>{what}\"{close}");
    };
    let stages: Vec<&str> = lines.iter().map(|(stage, _)| *stage).filter(|stage| !BESIDE.contains(stage)).collect();
    for stage in &stages {
        match *stage {
            "model" => node(stage, stage, &[line(stage), line("devices")], ["[[", "]]"]),
            "source" | "sink" => node(stage, stage, &[line(stage)], ["[(", ")]"]),
            _ => node(stage, stage, &[line(stage)], ["[", "]"]),
        }
    }
    if plan.dead_letter.is_some() {
        node("rejected", "dead letters", &[line("rejected")], ["[(", ")]"]);
    }
    for pair in stages.windows(2) {
        let _ = writeln!(text, "  {} -->|{}| {}", pair[0], flow(pair[1]), pair[1]);
    }
    if plan.dead_letter.is_some() {
        // A file takes any row; a topic has a limit.
        let sink = matches!(plan.sink, SinkPlan::Kafka(_)).then_some("sink");
        for stage in ["record", "model"].into_iter().chain(sink) {
            let _ = writeln!(text, "  {stage} -.->|rejected| rejected");
        }
    }
    if matches!(plan.source, SourcePlan::Kafka(_)) {
        let _ = writeln!(text, "  sink -.->|\"{}\"| source", label(line("delivery")));
    }
    text
}

/// What goes into a stage.
fn flow(into: &str) -> &'static str {
    match into {
        "window" => "token sequences",
        "batch" => "windows",
        "model" => "micro-batches",
        "sink" => "rows in source order",
        _ => "records",
    }
}

/// Text in a label: Mermaid has escapes of its own for what would end it or be a tag.
fn label(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("#quot;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '#' => escaped.push_str("#35;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_end_early() {
        assert_eq!(label("a \"b\" <c> #1"), "a #quot;b#quot; #lt;c#gt; #35;1");
    }
}

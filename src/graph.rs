//! The execution plan as a Mermaid flowchart, with a description of each stage.
//!
//! The stages are those of [`Plan::lines`], so a stage that is added there is drawn too. Pure.

use std::fmt::Write;

use crate::model::spec::ModelSpec;
use crate::plan::{Plan, SinkPlan, SourcePlan};

/// Lines of the plan that are not stages that records pass. They are drawn elsewhere or left out.
const NOT_STAGES: [&str; 6] = ["devices", "rejected", "delivery", "drain", "observe", "traces"];

/// The plan as a Mermaid flowchart. With `spec` it includes what the model's files say.
pub fn mermaid(plan: &Plan, spec: Option<&ModelSpec>) -> String {
    let lines = plan.lines(spec);
    let line = |stage: &str| lines.iter().find(|(name, _)| *name == stage).map_or("", |(_, what)| what.as_str());
    let mut text = String::from("flowchart LR\n");
    let mut node = |name: &str, title: &str, what: &[&str], [open, close]: [&str; 2]| {
        let what: String = what.iter().map(|what| format!("<br/>{}", label(what))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}{open}\"<b>{title}</b>{what}\"{close}");
    };
    let stages: Vec<&str> = lines.iter().map(|(stage, _)| *stage).filter(|stage| !NOT_STAGES.contains(stage)).collect();
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
        // Only a topic can reject a row: its messages have a maximum size.
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

/// What flows into a stage.
fn flow(into: &str) -> &'static str {
    match into {
        "window" => "token sequences",
        "batch" => "windows",
        "model" => "micro-batches",
        "sink" => "rows in source order",
        _ => "records",
    }
}

/// Escapes text for a label in Mermaid's own way, so that it cannot end the label or become a tag.
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

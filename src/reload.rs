//! What of a plan can change while it runs, and what a pipeline file that was read again changes.
//!
//! In: the configuration that runs, and the one that was read. Out: the keys that differ, told apart by whether they can
//! change; the rest of the pipeline sees a [`Tuning`]. Pure: `cli` reads the file, on SIGHUP.

use std::time::Duration;

use serde_json::Value;

use crate::config::Config;
use crate::pipeline::Tuning;
use crate::plan::Plan;

/// The keys that can change while a pipeline runs. Others are part of what was opened, loaded or promised at its start.
pub const RELOADED: [&str; 6] = ["batch.rows", "batch.tokens", "drain_ms", "log", "window.linger_ms", "window.tokens"];

/// The settings of a plan that can change.
pub fn tuning_of(plan: &Plan) -> Tuning {
    Tuning {
        window_tokens: plan.window.tokens,
        linger: Duration::from_millis(plan.window.linger_ms),
        batch: plan.batch.clone(),
        drain_max: plan.drain_max,
    }
}

/// What a file that was read again changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The configuration that runs from now on: what was read, in the keys of [`RELOADED`].
    pub running: Config,
    pub applied: Vec<String>,
    /// Keys that only a restart changes.
    pub left: Vec<String>,
}

/// Compares what runs with what was `read`. Values are not told: they may be secrets.
pub fn changes(running: &Config, read: &Config) -> Changes {
    let mut changed = Vec::new();
    compare(&as_json(running), &as_json(read), String::new(), &mut changed);
    let (applied, left) = changed.into_iter().partition(|key| RELOADED.contains(&key.as_str()));
    let mut running = running.clone();
    running.batch = read.batch.clone();
    running.window.tokens = read.window.tokens;
    running.window.linger_ms = read.window.linger_ms;
    running.drain_ms = read.drain_ms;
    running.log = read.log.clone();
    Changes { running, applied, left }
}

fn as_json(config: &Config) -> Value {
    // A section with a map in it whose keys are no strings could not be written; there is none.
    serde_json::to_value(config).unwrap_or_default()
}

/// The dotted keys at which `a` and `b` differ; lists are compared whole.
fn compare(a: &Value, b: &Value, path: String, changed: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let side = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                compare(&side(a), &side(b), at, changed);
            }
        }
        (a, b) if a == b => {}
        _ => changed.push(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn config(more: &[&str]) -> Config {
        let text = "source: {files: {paths: [a]}}\nmodel: {id: m}\nsink: {arrow: {path: o}}\n";
        Layers::from_texts(&[("p.yaml", text)], &[], more).load().expect("a valid file")
    }

    #[test]
    fn keys_are_told_apart_and_only_those_that_can_are_taken_over() {
        let running = config(&[]);
        let check = |set: &[&str], applied: &[&str], left: &[&str]| {
            let read = config(set);
            let changes = changes(&running, &read);
            assert_eq!((changes.applied, changes.left), (names(applied), names(left)), "{set:?}");
            assert_eq!(changes.running == read, left.is_empty());
            // What was left is told again next time, what was applied is not.
            let again = super::changes(&changes.running, &read);
            assert_eq!((again.applied, again.left), (names(&[]), names(left)));
        };
        check(&[], &[], &[]);
        check(&["batch.tokens=1024", "drain_ms=7"], &["batch.tokens", "drain_ms"], &[]);
        check(&["window.linger_ms=1", "window.bytes=1000"], &["window.linger_ms"], &["window.bytes"]);
        check(&["source.files.paths=[b, c]", "log=debug"], &["log"], &["source.files.paths"]);
        check(&["dead_letter={path: x}"], &[], &["dead_letter"]);
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_keys_that_can_change_are_there() {
        let all = as_json(&config(&[]));
        for key in RELOADED {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(all.pointer(&pointer).is_some(), "{key}");
        }
    }
}

//! Which settings can change while a pipeline runs, and which of them a reloaded pipeline file changes.
//!
//! In:  the running configuration and the reloaded one. Out: the keys that differ, divided into those that are applied
//!      and those that need a restart. The running pipeline receives the applied ones as a [`Tuning`].
//! Pure: `cli` reads the file, on SIGHUP.

use std::time::Duration;

use serde_json::Value;

use crate::config::Config;
use crate::pipeline::Tuning;
use crate::plan::Plan;

/// The keys that can change while a pipeline runs. The others determine what is opened and loaded at the start.
pub(crate) const RELOADABLE: [&str; 6] =
    ["batch.rows", "batch.tokens", "drain_ms", "log", "window.linger_ms", "window.tokens"];

/// The settings of a plan that can change while it runs.
pub(crate) fn tuning_of(plan: &Plan) -> Tuning {
    Tuning {
        window_tokens: plan.window.tokens,
        linger: Duration::from_millis(plan.window.linger_ms),
        batch: plan.batch.clone(),
        drain_max: plan.drain_max,
    }
}

/// The changes of a reload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changes {
    /// The configuration in force from now on: the running one with the reloaded values of [`RELOADABLE`].
    pub running: Config,
    /// Keys that changed and are applied.
    pub applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub needs_restart: Vec<String>,
}

/// Compares the running configuration with the `reloaded` one. Only keys are returned, because values may be secrets.
pub(crate) fn changes(running: &Config, reloaded: &Config) -> Changes {
    let mut changed = Vec::new();
    compare(&as_json(running), &as_json(reloaded), String::new(), &mut changed);
    let (applied, needs_restart) = changed.into_iter().partition(|key| RELOADABLE.contains(&key.as_str()));
    let mut running = running.clone();
    running.batch = reloaded.batch.clone();
    running.window.tokens = reloaded.window.tokens;
    running.window.linger_ms = reloaded.window.linger_ms;
    running.drain_ms = reloaded.drain_ms;
    running.log = reloaded.log.clone();
    Changes { running, applied, needs_restart }
}

fn as_json(config: &Config) -> Value {
    // Fails only for maps whose keys are not strings, which no section has.
    serde_json::to_value(config).unwrap_or_default()
}

/// Collects the dotted keys at which `a` and `b` differ. Lists are compared as a whole.
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
    fn only_reloadable_keys_are_applied() {
        let running = config(&[]);
        let check = |set: &[&str], applied: &[&str], needs_restart: &[&str]| {
            let reloaded = config(set);
            let changes = changes(&running, &reloaded);
            assert_eq!((changes.applied, changes.needs_restart), (names(applied), names(needs_restart)), "{set:?}");
            assert_eq!(changes.running == reloaded, needs_restart.is_empty());
            // Keys that need a restart are reported again by the next reload; applied keys are not.
            let again = super::changes(&changes.running, &reloaded);
            assert_eq!((again.applied, again.needs_restart), (names(&[]), names(needs_restart)));
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
    fn the_reloadable_keys_exist() {
        let all = as_json(&config(&[]));
        for key in RELOADABLE {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(all.pointer(&pointer).is_some(), "{key}");
        }
    }
}

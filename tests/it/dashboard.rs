//! The table of metrics, the dashboard, the alerts and the README name only metrics that exist.

use std::collections::BTreeSet;
use std::fs;

use embedmill::internal::telemetry::names::{ALL, Metric, MetricKind};
use serde_json::Value;

use super::repository::{read, root};

/// The metric of a series, which may be `_bucket`, `_sum` or `_count` of a histogram.
fn metric(series: &str) -> Option<&'static Metric> {
    ALL.iter().find_map(|(kind, metric)| {
        let part = series.strip_prefix(metric.name)?;
        let parts: &[&str] = if *kind == MetricKind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        parts.contains(&part).then_some(metric)
    })
}

/// Every series in a query, with its selector's labels.
fn series(query: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.match_indices("embedmill_").map(|(at, _)| at);
    let starts = starts.filter(|at| !query[..*at].ends_with(is_part));
    let one = |at: usize| {
        let end = query[at..].find(|c| !is_part(c)).map_or(query.len(), |length| at + length);
        let selector =
            query[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |matcher: &str| matcher.split(['=', '!']).next().unwrap_or_default().trim().to_string();
        let labels = selector.split(',').filter(|matcher| !matcher.is_empty()).map(label);
        (query[at..end].to_string(), labels.collect())
    };
    starts.map(one).collect()
}

/// Panics if the query names an unknown series or label; returns the names of its metrics.
fn check(query: &str) -> BTreeSet<&'static str> {
    // Labels that Prometheus adds to every series that it scrapes.
    const ADDED_LABELS: [&str; 2] = ["job", "instance"];
    let mut found = BTreeSet::new();
    for (name, labels) in series(query) {
        let metric = metric(&name).unwrap_or_else(|| panic!("{name}: unknown metric in {query}"));
        for label in labels {
            let known =
                ADDED_LABELS.contains(&label.as_str()) || metric.labels.iter().any(|(known, _)| *known == label);
            assert!(known, "{name}: unknown label {label} in {query}");
        }
        found.insert(metric.name);
    }
    found
}

#[test]
fn a_query_is_taken_apart() {
    let found = series("sum(rate(embedmill_a_total{job=~\"x\", outcome!=\"y\"}[5m])) / embedmill_b");
    let labels = vec!["job".to_string(), "outcome".to_string()];
    assert_eq!(found, [("embedmill_a_total".into(), labels), ("embedmill_b".into(), vec![])]);
}

fn expressions(node: &Value, found: &mut Vec<String>) {
    match node {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/embedmill.json")).expect("JSON");
    let mut queries = Vec::new();
    expressions(&dashboard, &mut queries);
    assert!(queries.len() > 30, "the dashboard was walked");
    let shown: BTreeSet<&str> = queries.iter().flat_map(|query| check(query)).collect();
    let missing: Vec<&str> = ALL.iter().map(|(_, metric)| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn alerts_are_on_known_metrics_and_say_what_to_do() {
    let text = read("deploy/prometheus/alerts.yaml");
    // Indentation tells the rules apart; a YAML parser would be a crate more for nothing else.
    let rules: Vec<&str> = text.split("      - alert: ").skip(1).collect();
    assert!(rules.len() >= 5);
    for rule in rules {
        let (_, expression) = rule.split_once("expr: ").expect("an alert has an expression");
        let expression = expression.split("\n        labels:").next().expect("an alert has labels");
        assert!(!check(expression).is_empty(), "{rule}");
        for part in ["labels: { severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "an alert has no {part}: {rule}");
        }
    }
}

/// The table of all metrics, as it stands in deploy/METRICS.md.
fn table() -> String {
    let row = |(kind, metric): &(MetricKind, Metric)| {
        let labels = metric.labels.iter().map(|(label, values)| match values {
            [] => format!("`{label}`"),
            values => format!("`{label}`: {}", values.join(", ")),
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        format!("| `{}` | {} | {labels} | {} |\n", metric.name, kind.as_str(), metric.help)
    };
    let rows: String = ALL.iter().map(row).collect();
    format!(
        "# Metrics\n\nServed at `/metrics` of `observe.listen`. This file is generated from `src/telemetry/names.rs` by \
         `EMBEDMILL_UPDATE_METRICS=1 cargo test --release metrics`.\n\n| name | kind | labels | description |\n|---|---|---|---|\n{rows}"
    )
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    if std::env::var_os("EMBEDMILL_UPDATE_METRICS").is_some() {
        fs::write(root().join("deploy/METRICS.md"), table()).expect("it can be written");
    }
    assert_eq!(read("deploy/METRICS.md"), table(), "make it again, as the file says");
}

#[test]
fn the_readme_names_only_known_metrics() {
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let quoted = readme.split('`').filter(|text| text.contains("embedmill_"));
    let named: BTreeSet<&str> = quoted.flat_map(check).collect();
    assert!(named.len() >= 3, "{named:?}");
}

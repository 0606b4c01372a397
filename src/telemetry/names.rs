//! Every metric once: its name, kind, labels and help, by the Prometheus conventions.
//!
//! A counter ends in `_total`, a unit is the last word before that, and a unit is a base unit. Time that adds up is a
//! histogram, whose `_sum` is the seconds and whose `_count` is how often. README's table, the dashboard and the alerts
//! are held to this list by tests.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Key, Label, Level, Metadata, Recorder, with_recorder};

/// Whether there is a recorder; without one no label is ever put together.
static RECORDED: AtomicBool = AtomicBool::new(false);

/// A metric's fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// Names of the labels, and their values where all are known: those are there from the start, at zero.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    pub help: &'static str,
}

/// Only goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub Metric);

/// Goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge(pub Metric);

/// Counts by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram(pub Metric);

/// Any of them, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

macro_rules! list {
    ($($kind:ident $constant:ident = $name:literal { $($label:ident: [$($value:literal),*]),* } $help:literal)*) => {
        $(
            #[doc = $help]
            pub const $constant: $kind = $kind(Metric {
                name: $name,
                labels: &[$((stringify!($label), &[$($value),*])),*],
                help: $help,
            });
        )*

        /// All of them, in this file's order.
        pub const ALL: &[(Kind, Metric)] = &[$((Kind::$kind, $constant.0)),*];
    };
}

list! {
    Counter RECORDS_READ = "embedmill_records_read_total" {}
        "Records that the source has handed on; each of them ends in embedmill_records_total"
    Counter RECORDS = "embedmill_records_total" { outcome: ["published", "dead_lettered", "deleted", "abandoned"] }
        "Settled records by what became of them; abandoned: read again by whoever has the partition now"
    Counter DEAD_LETTERS = "embedmill_dead_letters_total" { stage: ["read", "extract", "tokenize", "encode", "publish"] }
        "Rejected records by the stage that rejected them"
    Counter ROWS = "embedmill_rows_total" {}
        "Rows published"
    Counter TOKENS = "embedmill_tokens_total" {}
        "Tokens of published windows, special ones included"
    Counter TRUNCATED_ROWS = "embedmill_truncated_rows_total" {}
        "Rows whose text was longer than the model takes"
    Counter TRUNCATED_TOKENS = "embedmill_truncated_tokens_total" {}
        "Tokens that were cut off from too long texts"
    Counter WINDOWS = "embedmill_windows_total" { closed: ["tokens", "records", "bytes", "linger", "end"] }
        "Windows by why they got no more records"
    Counter WINDOWS_SETTLED = "embedmill_windows_settled_total" {}
        "Windows published whole, or given up"
    Counter BATCHES = "embedmill_batches_total" { closed: ["tokens", "rows", "window"] }
        "Micro-batches by why they got no more rows"
    Histogram BATCH_FILL = "embedmill_batch_fill_ratio" {}
        "Tokens of a micro-batch as a share of batch.tokens"
    Histogram ENCODE = "embedmill_encode_seconds" { device: [], worker: [] }
        "Time in the model a micro-batch; 1 - rate(_sum) is the share of time that the worker was idle"
    Counter SPLITS = "embedmill_encode_splits_total" { device: [], worker: [] }
        "Micro-batches that were split because the device ran out of memory"
    Histogram SOURCE_WAIT = "embedmill_source_wait_seconds" {}
        "Time that a run of records waited for room in the pipeline: backpressure"
    Histogram PREPARE = "embedmill_prepare_seconds" {}
        "Time to extract and tokenise a run of records, on one of several threads"
    Histogram PUBLISH = "embedmill_publish_seconds" {}
        "Time to publish a window and commit it, with retries"
    Histogram WINDOW_AGE = "embedmill_window_age_seconds" {}
        "From a window's first record in the pipeline to the window published"
    Histogram LATENCY = "embedmill_latency_seconds" {}
        "From a record's own timestamp (else its window's opening) to its window published; a window's first and last record"
    Gauge IN_FLIGHT_BYTES = "embedmill_in_flight_bytes" {}
        "Bytes of the memory budget in use: records between source and sink, and what is made of them"
    Gauge IN_FLIGHT_BYTES_MAX = "embedmill_in_flight_limit_bytes" {}
        "The memory budget: window.in_flight_bytes and room for one open window"
    Gauge WINDOWS_IN_FLIGHT = "embedmill_windows_in_flight" {}
        "Windows closed and not yet settled"
    Gauge BATCHES_QUEUED = "embedmill_batches_queued" {}
        "Micro-batches that no worker has taken yet"
    Gauge READY = "embedmill_ready" {}
        "1 while /ready says so"
    Counter PUBLISH_RETRIES = "embedmill_publish_retries_total" {}
        "Windows that could not be published and were tried again"
    Counter LOG_EVENTS = "embedmill_log_events_total" { level: ["warn", "error"] }
        "Warnings and errors, those left out of the log included"
    Gauge LAG = "embedmill_kafka_lag_records" { topic: [], partition: [] }
        "Offsets between the partition's end and what is published of it; 0 once the partition is taken away"
    Gauge ASSIGNED = "embedmill_kafka_partitions_assigned" {}
        "Partitions that are this member's"
    Counter REBALANCES = "embedmill_kafka_rebalances_total" { event: ["assigned", "revoked", "lost", "failed"] }
        "Rebalances of the group that reached this member"
    Counter COMMITS = "embedmill_kafka_commits_total" { outcome: ["ok", "failed"] }
        "Commits of positions outside transactions; of those after a window, that the client took them"
    Counter TRANSACTIONS = "embedmill_kafka_transactions_total" { outcome: ["committed", "aborted"] }
        "Transactions, each a try at a window under exactly_once"
    Histogram TRANSACTION = "embedmill_kafka_transaction_seconds" {}
        "From a transaction's beginning to its commit or abort"
    Counter MESSAGES = "embedmill_kafka_messages_total" { outcome: ["acknowledged", "failed"] }
        "Messages produced, dead letters included, by what the brokers answered"
    Gauge BUILD_INFO = "embedmill_build_info" { version: [] }
        "Always 1"
    Gauge MODEL_INFO = "embedmill_model_info" { model: [], revision: [], dim: [], precision: [] }
        "Always 1, once the model is loaded"
}

/// Upper bounds of buckets for what ends in `_seconds`: from a publish to memory to a window that waits for a broker.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// And for what ends in `_ratio`. A text longer than a batch fills one by more than 1.
const RATIOS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];

/// By the end of a histogram's name, the upper bounds of its buckets.
pub const BUCKETS: &[(&str, &[f64])] = &[("_seconds", SECONDS), ("_ratio", RATIOS)];

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Whether anybody records.
pub fn are_recorded() -> bool {
    RECORDED.load(Ordering::Relaxed)
}

/// Describes all metrics to the recorder that was just installed, and sets those whose labels are known to zero: a rate
/// is known from the second value on only.
pub fn begin() {
    RECORDED.store(true, Ordering::Relaxed);
    for (kind, metric) in ALL {
        with_recorder(|recorder| metric.describe(*kind, recorder));
        let label_values: Vec<Vec<&str>> = match metric.labels {
            [] => vec![vec![]],
            [(_, values)] => values.iter().map(|value| vec![*value]).collect(),
            // No metric has two labels whose values are all known.
            _ => vec![],
        };
        for values in label_values {
            match kind {
                Kind::Counter => Counter(*metric).add(0, &values),
                Kind::Gauge => Gauge(*metric).set(0.0, &values),
                Kind::Histogram => Histogram(*metric).begin(&values),
            }
        }
    }
}

impl Metric {
    fn describe(&self, kind: Kind, recorder: &dyn Recorder) {
        let (name, help) = (self.name.into(), self.help.into());
        match kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }

    /// `values` are the labels' values, in the order of the labels.
    fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(values.len(), self.labels.len(), "{} has a value for each label", self.name);
        let labels = self.labels.iter().zip(values).map(|((label, _), value)| Label::new(*label, value.to_string()));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}

impl Counter {
    /// Adds to the counter under these labels' values.
    pub fn add(&self, count: u64, values: &[&str]) {
        if are_recorded() {
            self.handle(values).increment(count);
        }
    }

    /// The counter itself, for where a look-up each time would be too much.
    pub fn handle(&self, values: &[&str]) -> metrics::Counter {
        with_recorder(|recorder| recorder.register_counter(&self.0.key(values), &METADATA))
    }
}

impl Gauge {
    pub fn set(&self, value: f64, values: &[&str]) {
        if are_recorded() {
            with_recorder(|recorder| recorder.register_gauge(&self.0.key(values), &METADATA)).set(value);
        }
    }
}

impl Histogram {
    /// Lets it be there with nothing counted.
    pub fn begin(&self, values: &[&str]) {
        drop(self.handle(values));
    }

    fn handle(&self, values: &[&str]) -> metrics::Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.0.key(values), &METADATA))
    }

    pub fn record(&self, value: f64, values: &[&str]) {
        if are_recorded() {
            self.handle(values).record(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchClosed;
    use crate::record::Stage;
    use crate::window::WindowClosed;

    #[test]
    fn names_follow_the_conventions() {
        for (index, (kind, metric)) in ALL.iter().enumerate() {
            let Metric { name, help, .. } = metric;
            assert!(name.starts_with("embedmill_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let bucketed = BUCKETS.iter().any(|(end, _)| name.ends_with(end));
            assert!(*kind != Kind::Histogram || bucketed, "{name} has no buckets");
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('|'), "{name}: {help}");
            assert!(ALL[..index].iter().all(|(_, other)| other.name != *name), "{name} is there twice");
        }
    }

    #[test]
    fn known_label_values_are_those_of_the_types() {
        let check = |metric: Metric, values: Vec<&str>| assert_eq!(metric.labels[0].1, values, "{}", metric.name);
        check(DEAD_LETTERS.0, Stage::ALL.map(Stage::as_str).to_vec());
        check(WINDOWS.0, WindowClosed::ALL.map(WindowClosed::as_str).to_vec());
        check(BATCHES.0, BatchClosed::ALL.map(BatchClosed::as_str).to_vec());
    }
}

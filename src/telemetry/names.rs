//! The one list of metrics: name, kind, labels and help text, by the naming conventions of Prometheus.
//!
//! The name of a counter ends in `_total`; the unit, always a base unit, is the last word before that. Durations are
//! histograms, whose `_sum` is in seconds and whose `_count` is the number of events. Tests compare this list with
//! `deploy/METRICS.md`, the dashboard, the alerts and the README.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Key, Label, Level, Metadata, Recorder, with_recorder};

/// Whether a recorder is installed. Without one, labels are not even formatted.
static HAS_RECORDER: AtomicBool = AtomicBool::new(false);

/// The static description of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The full name, which begins with `embedmill_`.
    pub name: &'static str,
    /// Label names, each with all of its values if they are known in advance. Series of known values are exported from
    /// the start, at zero.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// One line without a full stop, shown in `# HELP` and in `deploy/METRICS.md`.
    pub help: &'static str,
}

/// A metric that only increases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter(pub Metric);

/// A metric that can increase and decrease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gauge(pub Metric);

/// A distribution of observed values in buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Histogram(pub Metric);

/// The kind of a metric in [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A `Counter`.
    Counter,
    /// A `Gauge`.
    Gauge,
    /// A `Histogram`.
    Histogram,
}

impl MetricKind {
    /// The kind's name in the exposition format of Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

macro_rules! define_metrics {
    ($($kind:ident $constant:ident = $name:literal { $($label:ident: [$($value:literal),*]),* } $help:literal)*) => {
        $(
            #[doc = $help]
            pub(crate) const $constant: $kind = $kind(Metric {
                name: $name,
                labels: &[$((stringify!($label), &[$($value),*])),*],
                help: $help,
            });
        )*

        /// All metrics, in the order of this file.
        pub const ALL: &[(MetricKind, Metric)] = &[$((MetricKind::$kind, $constant.0)),*];
    };
}

define_metrics! {
    Counter RECORDS_READ = "embedmill_records_read_total" {}
        "Records read by the source; each is later counted once in embedmill_records_total"
    Counter RECORDS = "embedmill_records_total" { outcome: ["published", "dead_lettered", "deleted", "abandoned"] }
        "Settled records by outcome; abandoned: the partition was revoked, and its new owner reads them again"
    Counter DEAD_LETTERS = "embedmill_dead_letters_total" { stage: ["read", "extract", "tokenize", "encode", "publish"] }
        "Records sent to the dead letters, by the stage that rejected them"
    Counter ROWS = "embedmill_rows_total" {}
        "Rows published"
    Counter TOKENS = "embedmill_tokens_total" {}
        "Tokens of published windows, including special tokens"
    Counter TRUNCATED_ROWS = "embedmill_truncated_rows_total" {}
        "Rows whose text was longer than the model's maximum sequence length"
    Counter TRUNCATED_TOKENS = "embedmill_truncated_tokens_total" {}
        "Tokens lost to truncation"
    Counter WINDOWS = "embedmill_windows_total" { closed: ["tokens", "records", "bytes", "linger", "end"] }
        "Windows by the limit that closed them"
    Counter WINDOWS_SETTLED = "embedmill_windows_settled_total" {}
        "Windows settled: published and committed, or abandoned"
    Counter BATCHES = "embedmill_batches_total" { closed: ["tokens", "rows", "window"] }
        "Micro-batches by the limit that closed them"
    Histogram BATCH_FILL = "embedmill_batch_fill_ratio" {}
        "Tokens of a micro-batch divided by batch.tokens"
    Histogram ENCODE = "embedmill_encode_seconds" { device: [], worker: [] }
        "Time to encode a micro-batch; 1 - rate(_sum) is the fraction of time that the worker was idle"
    Counter SPLITS = "embedmill_encode_splits_total" { device: [], worker: [] }
        "Micro-batches split because the device ran out of memory"
    Histogram SOURCE_WAIT = "embedmill_source_wait_seconds" {}
        "Time that a block of records waited for free capacity in the pipeline (backpressure)"
    Histogram PREPARE = "embedmill_prepare_seconds" {}
        "Time to extract and tokenize a block of records, on one of several threads"
    Histogram PUBLISH = "embedmill_publish_seconds" {}
        "Time to publish and commit a window, including retries"
    Histogram WINDOW_AGE = "embedmill_window_age_seconds" {}
        "Time from the arrival of a window's first record in the pipeline until the window is published"
    Histogram LATENCY = "embedmill_latency_seconds" {}
        "Time from a record's timestamp (or the opening of its window) until its window is published; observed for a window's first and last record"
    Gauge IN_FLIGHT_BYTES = "embedmill_in_flight_bytes" {}
        "Bytes of the memory budget in use: records between source and sink, and the vectors made of them"
    Gauge IN_FLIGHT_BYTES_MAX = "embedmill_in_flight_limit_bytes" {}
        "Size of the memory budget: window.in_flight_bytes plus one open window"
    Gauge WINDOWS_IN_FLIGHT = "embedmill_windows_in_flight" {}
        "Windows closed but not yet settled"
    Gauge BATCHES_QUEUED = "embedmill_batches_queued" {}
        "Micro-batches waiting for a worker"
    Gauge READY = "embedmill_ready" {}
        "1 while /ready answers 200, otherwise 0"
    Counter PUBLISH_RETRIES = "embedmill_publish_retries_total" {}
        "Failed attempts to publish a window that are retried"
    Counter LOG_EVENTS = "embedmill_log_events_total" { level: ["warn", "error"] }
        "Warnings and errors logged, including suppressed repeats"
    Gauge LAG = "embedmill_kafka_lag_records" { topic: [], partition: [] }
        "Consumer lag: offsets between the end of the partition and the last published record; 0 after the partition is revoked"
    Gauge ASSIGNED = "embedmill_kafka_partitions_assigned" {}
        "Partitions assigned to this consumer"
    Counter REBALANCES = "embedmill_kafka_rebalances_total" { event: ["assigned", "revoked", "lost", "failed"] }
        "Rebalances of the consumer group seen by this consumer"
    Counter COMMITS = "embedmill_kafka_commits_total" { outcome: ["ok", "failed"] }
        "Offset commits outside transactions; after a window, ok means that the client has queued the commit"
    Counter TRANSACTIONS = "embedmill_kafka_transactions_total" { outcome: ["committed", "aborted"] }
        "Transactions under exactly_once, one per attempt to publish a window"
    Histogram TRANSACTION = "embedmill_kafka_transaction_seconds" {}
        "Time from the beginning of a transaction to its commit or abort"
    Counter MESSAGES = "embedmill_kafka_messages_total" { outcome: ["acknowledged", "failed"] }
        "Messages produced, including dead letters, by the outcome that the broker reported"
    Gauge BUILD_INFO = "embedmill_build_info" { version: [] }
        "Always 1; the label is the version of embedmill"
    Gauge MODEL_INFO = "embedmill_model_info" { model: [], revision: [], dim: [], precision: [] }
        "Always 1 after the model is loaded; the labels describe the model"
}

/// Bucket bounds of histograms in seconds: from publishing to memory up to a window that waits for a broker.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Bucket bounds of ratios. A text longer than `batch.tokens` gives a ratio above 1.
const RATIOS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];

/// Upper bounds of the buckets by the suffix of a histogram's name.
pub(crate) const BUCKETS: &[(&str, &[f64])] = &[("_seconds", SECONDS), ("_ratio", RATIOS)];

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Whether a recorder is installed, so that formatting labels is worthwhile.
pub(crate) fn is_recording() -> bool {
    HAS_RECORDER.load(Ordering::Relaxed)
}

/// Describes all metrics to the recorder that was just installed, and exports series with known label values at zero.
/// Without that zero, `rate()` would miss the first increment.
pub(crate) fn init() {
    HAS_RECORDER.store(true, Ordering::Relaxed);
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
                MetricKind::Counter => Counter(*metric).add(0, &values),
                MetricKind::Gauge => Gauge(*metric).set(0.0, &values),
                MetricKind::Histogram => Histogram(*metric).init(&values),
            }
        }
    }
}

impl Metric {
    fn describe(&self, kind: MetricKind, recorder: &dyn Recorder) {
        let (name, help) = (self.name.into(), self.help.into());
        match kind {
            MetricKind::Counter => recorder.describe_counter(name, None, help),
            MetricKind::Gauge => recorder.describe_gauge(name, None, help),
            MetricKind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }

    /// `values` are the label values, in the order of `labels`.
    fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(values.len(), self.labels.len(), "{} needs one value per label", self.name);
        let labels = self.labels.iter().zip(values).map(|((label, _), value)| Label::new(*label, value.to_string()));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}

impl Counter {
    /// Increments the series with these label values by `count`.
    pub(crate) fn add(&self, count: u64, values: &[&str]) {
        if is_recording() {
            self.handle(values).increment(count);
        }
    }

    /// The series itself, for callers that cannot afford a look-up per increment.
    pub(crate) fn handle(&self, values: &[&str]) -> metrics::Counter {
        with_recorder(|recorder| recorder.register_counter(&self.0.key(values), &METADATA))
    }
}

impl Gauge {
    /// Sets the series with these label values.
    pub(crate) fn set(&self, value: f64, values: &[&str]) {
        if is_recording() {
            with_recorder(|recorder| recorder.register_gauge(&self.0.key(values), &METADATA)).set(value);
        }
    }
}

impl Histogram {
    /// Exports the series with a count of zero.
    pub(crate) fn init(&self, values: &[&str]) {
        drop(self.handle(values));
    }

    fn handle(&self, values: &[&str]) -> metrics::Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.0.key(values), &METADATA))
    }

    /// Observes one value.
    pub(crate) fn record(&self, value: f64, values: &[&str]) {
        if is_recording() {
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
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            let bucketed = BUCKETS.iter().any(|(end, _)| name.ends_with(end));
            assert!(*kind != MetricKind::Histogram || bucketed, "{name} has no buckets");
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('|'), "{name}: {help}");
            assert!(ALL[..index].iter().all(|(_, other)| other.name != *name), "{name} is declared twice");
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

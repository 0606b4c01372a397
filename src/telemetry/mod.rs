//! Observability of a run: metrics, current state, logs, traces, and the HTTP endpoint that serves them.
//!
//! - [`names`] declares every metric once: name, kind, labels and help text
//! - [`events`] is the API that stages call; each function updates the metrics and the state together
//! - [`live`] is the current state: progress of partitions, work in flight, health
//! - [`status`] is that state as `/status` serves it and `embedmill top` reads it
//! - [`observer`] serves `/live`, `/ready`, `/metrics` and `/status` when the pipeline file has `observe:`
//! - [`traces`] records one trace per window, and [`otlp`] exports the traces when `observe.otlp` or the environment asks
//! - [`workers`] counts the work of each device's worker
//! - [`logs`] sets up `tracing`, limits repeated log lines, and keeps the most recent errors
//!
//! A process runs one pipeline, so this state is global, like the recorder of the `metrics` crate. Without an observer
//! no metric is recorded. An event costs a few atomic operations per window or batch, and nothing per record.

pub(crate) mod events;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod names;
pub(crate) mod observer;
pub(crate) mod otlp;
pub(crate) mod status;
pub(crate) mod traces;
pub(crate) mod workers;

pub(crate) use observer::{ObserveConfig, Observer};

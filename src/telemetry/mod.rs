//! What a run shows of itself: metrics, the state now, logs, and the HTTP endpoint that serves them.
//!
//! - [`names`] has every metric once: name, kind, labels, help
//! - [`events`] is what the stages say, a line at each place: an event updates the metrics and the state together
//! - [`live`] is the state now: what is in flight, where the partitions are, what is wrong
//! - [`status`] is that state as `/status` serves it and `embedmill top` reads it
//! - [`observer`] serves `/live`, `/ready`, `/metrics` and `/status`, where `observe:` asks for it
//! - [`traces`] makes a trace of each window, and [`otlp`] sends them where `observe.otlp` or the environment asks for it
//! - [`workers`] counts what the devices do
//! - [`logs`] writes events of `tracing`, not more of one place than anyone reads, and keeps the last errors
//!
//! A process runs one pipeline, so all of this is global, as the `metrics` crate's recorder is. Without an observer
//! nothing is recorded, and an event costs a few atomic operations a window or batch; never anything a record.

pub mod events;
pub mod live;
pub mod logs;
pub mod names;
pub mod observer;
pub mod otlp;
pub mod status;
pub mod traces;
pub mod workers;

pub use observer::{ObserveConfig, Observer};

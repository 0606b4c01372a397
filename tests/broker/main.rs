//! embedmill against a real Kafka broker, which these tests start and stop.

mod chaos;
mod cluster;
#[path = "../it/collector.rs"]
mod collector;
mod deployed;
mod enrich;
mod java;
mod members;
mod observe;
#[path = "../it/prometheus.rs"]
mod prometheus;
mod refused;
mod server;
mod speed;
mod traces;

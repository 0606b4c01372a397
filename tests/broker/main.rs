//! embedmill against a real Kafka broker, which these tests start and stop.
#![allow(unreachable_pub, reason = "`pub` is what other files of these tests use")]

mod chaos;
mod cluster;
#[path = "../common/collector.rs"]
mod collector;
mod deployed;
mod enrich;
mod java;
mod members;
mod observe;
#[path = "../common/prometheus.rs"]
mod prometheus;
mod refused;
mod server;
mod speed;
mod traces;

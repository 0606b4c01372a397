//! embedmill against a real Kafka broker, which these tests start and stop.

mod chaos;
mod cluster;
mod enrich;
mod refused;
mod server;
mod speed;

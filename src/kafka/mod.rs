//! Kafka: records are read from topics, vectors are written to topics, and a transaction can bind the two.
//!
//! - [`config`] is the `source.kafka:` and `sink.kafka:` sections, [`topic_names`] matches their names and patterns
//! - [`messages`] splits rows into messages
//! - `librdkafka` holds the clients; `disabled` has the same interface in a build without the feature `kafka`, where opening
//!   any of them fails

#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only the Kafka clients have checkpoints"))]
mod checkpoint_metadata;
mod cluster;
pub(crate) mod config;
#[cfg(not(feature = "kafka"))]
mod disabled;
mod error;
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only the Kafka clients produce messages"))]
mod headers;
#[cfg(feature = "kafka")]
mod librdkafka;
pub(crate) mod messages;
mod options;
pub(crate) mod topic_names;

pub(crate) use cluster::{Cluster, Properties};
#[cfg(not(feature = "kafka"))]
pub(crate) use disabled::{KafkaConsumer, KafkaProducer, replay};
pub use error::KafkaError;
#[cfg(feature = "kafka")]
pub(crate) use librdkafka::{KafkaConsumer, KafkaProducer, replay};
pub(crate) use options::{ReplayOptions, ReplaySummary, TransactionMode};

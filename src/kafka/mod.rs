//! Kafka: records out of topics, vectors into topics, and the two bound together exactly once.
//!
//! - [`config`] is what the pipeline file says, [`topic_names`] what its names and patterns match
//! - [`messages`] cuts rows into messages
//! - `librdkafka` is the clients; `disabled` is the same doors in a build without the feature `kafka`
//!
//! Without the feature `kafka` everything that needs librdkafka is refused when a run starts.

pub mod config;
#[cfg(not(feature = "kafka"))]
mod disabled;
mod error;
#[cfg(feature = "kafka")]
mod librdkafka;
pub mod messages;
mod options;
pub mod topic_names;

#[cfg(not(feature = "kafka"))]
pub use disabled::{KafkaCheckpoint, KafkaConsumer, KafkaProducer, replay};
pub use error::KafkaError;
#[cfg(feature = "kafka")]
pub use librdkafka::{KafkaCheckpoint, KafkaConsumer, KafkaProducer, replay};
pub use options::{Cluster, ReplayOptions, ReplaySummary, TransactionMode};

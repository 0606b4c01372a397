//! Kafka: records out of topics, vectors into topics, and the two bound together exactly once.
//!
//! - [`config`] is what the pipeline file says
//! - [`assignment`] knows which partitions are ours and what of them is settled: the source hands out, delivery settles
//! - `client` makes librdkafka's configuration and its errors ours
//! - `source` polls, `group` serves rebalances and keeps positions, `until_end` knows when to stop; `messages` cuts rows into messages, `publisher` produces them, `transaction` binds
//!   them to the group's positions; `topic` asks the brokers about a topic first; `statistics` looks at lag and brokers
//! - `checkpoint` keeps how far a run over files has come
//! - `replay` puts dead letters back, `report` tells what `check` shows
//!
//! Without the feature `kafka` everything that needs librdkafka is refused when a run starts.

pub mod assignment;
pub mod config;
pub mod messages;

#[cfg(feature = "kafka")]
mod checkpoint;
#[cfg(feature = "kafka")]
mod client;
#[cfg(all(test, feature = "kafka"))]
mod faults_tests;
#[cfg(feature = "kafka")]
mod group;
#[cfg(feature = "kafka")]
mod letters;
#[cfg(feature = "kafka")]
mod publisher;
#[cfg(feature = "kafka")]
mod replay;
#[cfg(feature = "kafka")]
mod report;
#[cfg(feature = "kafka")]
mod source;
#[cfg(feature = "kafka")]
mod statistics;
#[cfg(feature = "kafka")]
mod topic;
pub mod topic_names;
#[cfg(feature = "kafka")]
mod transaction;
#[cfg(feature = "kafka")]
mod until_end;
#[cfg(feature = "kafka")]
mod with_librdkafka;
#[cfg(not(feature = "kafka"))]
mod without_librdkafka;

#[cfg(feature = "kafka")]
pub use with_librdkafka::{KafkaCheckpoint, KafkaConsumer, KafkaProducer, Replayed, Transactions, Wanted, replay};
#[cfg(not(feature = "kafka"))]
pub use without_librdkafka::{KafkaCheckpoint, KafkaConsumer, KafkaProducer, Replayed, Transactions, Wanted, replay};

use crate::failure::Failure;

/// What went wrong, where, and what can be done.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property that librdkafka refuses. Its value is not shown: it may be a secret.
    #[error("kafka property `{key}`: {message}")]
    Property { key: String, message: String },
    #[error("{what}: {message}")]
    Failed { what: String, message: String, failure: Failure },
    #[error("this embedmill was built without Kafka; build it with `--features kafka`")]
    NotBuilt,
}

impl KafkaError {
    pub fn failure(&self) -> Failure {
        match self {
            KafkaError::Failed { failure, .. } => *failure,
            KafkaError::Property { .. } | KafkaError::NotBuilt => Failure::Fatal,
        }
    }
}

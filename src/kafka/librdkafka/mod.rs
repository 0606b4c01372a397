//! The clients of Kafka, by librdkafka: a consumer, a producer, and what binds them, as the rest of embedmill opens them.
//!
//! - `client` makes librdkafka's configuration, and says what its errors mean here
//! - `source` polls; `group` serves rebalances and keeps the group's offsets; `until_end` decides when to stop, by what
//!   `eof_tracker` has seen
//! - `publisher` produces messages through a `producer`, within `limits`; `dead_letters` makes a message of a dead letter;
//!   `topic` asks the brokers about a topic before anything is sent to it
//! - `transaction` binds a window to the group's offsets, `checkpoint` to the position in a list of files
//! - `replay` puts dead letters back; `report` is what `check` shows; `statistics` tells of lag and brokers

mod checkpoint;
mod client;
mod dead_letters;
mod eof_tracker;
#[cfg(test)]
mod faults_tests;
mod group;
mod limits;
mod producer;
mod publisher;
mod replay;
mod report;
mod source;
mod statistics;
mod topic;
mod transaction;
mod until_end;

use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;

pub use self::checkpoint::KafkaCheckpoint;
pub use self::replay::replay;
use crate::delivery::{NextOffsets, OffsetCommitter, Transaction};
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::sink::{DeadLetterSink, Sink};
use crate::source::Source;
use crate::source::file::InputFingerprints;
use crate::telemetry::events;
use group::{Group, GroupOffsets, open};
use publisher::{Publisher, SharedPublisher};
use source::KafkaSource;
use transaction::GroupTransaction;

/// A member of a consumer group.
pub struct KafkaConsumer {
    consumer: Arc<BaseConsumer<Group>>,
    config: KafkaSourceConfig,
}

impl KafkaConsumer {
    /// Connects and looks for the topics; joins nothing yet.
    pub fn open(config: &KafkaSourceConfig) -> Result<KafkaConsumer, KafkaError> {
        Ok(KafkaConsumer { consumer: open(config)?, config: config.clone() })
    }

    pub fn source(&self) -> Box<dyn Source> {
        // Before the run begins, or it would be ready for a moment.
        events::group_joining(&self.config.group);
        Box::new(KafkaSource {
            consumer: self.consumer.clone(),
            topics: self.config.topics.clone(),
            format: self.config.format,
            until_end: self.config.until_end,
        })
    }

    /// A line a topic, for people.
    pub fn report(&self) -> Result<Vec<String>, KafkaError> {
        report::source(&self.consumer, &self.config)
    }

    pub fn committer(&self) -> Box<dyn OffsetCommitter> {
        Box::new(GroupOffsets { consumer: self.consumer.clone() })
    }
}

/// A producer to a topic, and to the dead letters' topic.
pub struct KafkaProducer(SharedPublisher);

impl KafkaProducer {
    /// Connects, looks for the topics and their limits, and makes sure that transactions can be begun where they are
    /// wanted.
    pub fn open(
        sink: &KafkaSinkConfig,
        cluster: &Cluster,
        dead_letter_topic: Option<&str>,
        transactions: TransactionMode,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let publisher = Publisher::open(sink, cluster, dead_letter_topic, transactions, schema_hash)?;
        Ok(KafkaProducer(SharedPublisher::new(publisher)))
    }

    /// For the dead letters alone, of a pipeline that writes no rows to Kafka.
    pub fn open_for_dead_letters(
        topic: &str,
        cluster: &Cluster,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let sink = KafkaSinkConfig { topic: topic.into(), ..KafkaSinkConfig::default() };
        KafkaProducer::open(&sink, cluster, Some(topic), TransactionMode::None, schema_hash)
    }

    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.0.clone())
    }

    /// A line a topic, for people.
    pub fn report(&self) -> Vec<String> {
        self.0.lock().report()
    }

    pub fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        Box::new(self.0.clone())
    }

    /// How far a run over files has come; `topic` is the sink's.
    pub fn checkpoint(
        &self,
        name: &str,
        topic: &str,
        cluster: &Cluster,
        marks: InputFingerprints,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        KafkaCheckpoint::open(name, topic, cluster, self.0.clone(), marks)
    }

    pub fn transaction(&self, consumer: &KafkaConsumer) -> Box<dyn Transaction<NextOffsets>> {
        Box::new(GroupTransaction { publisher: self.0.clone(), consumer: consumer.consumer.clone() })
    }
}

//! The Kafka clients, on librdkafka: a consumer, a producer, and the transactions that bind them.
//!
//! - `client` configures librdkafka's clients, and decides what their errors mean for the stream
//! - `source` polls; `group` handles rebalances and commits the group's offsets; `until_end` decides when to stop, from what
//!   `eof_tracker` has seen
//! - `publisher` sends messages through a `producer`, within `limits`; `dead_letters` turns a dead letter into a message;
//!   `topic` queries the brokers about a topic before anything is sent to it
//! - `transaction` binds a window to the group's offsets, `checkpoint` binds it to the position in a list of files
//! - `replay` puts dead letters back; `report` is what `check` shows; `statistics` observes lag and brokers

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

pub(crate) use self::checkpoint::KafkaCheckpoint;
pub(crate) use self::replay::replay;
use crate::delivery::{NextOffsets, OffsetCommitter, Transaction};
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::sink::{DeadLetterSink, Sink};
use crate::source::Source;
use crate::source::file::InputFingerprints;
use crate::telemetry::events;
use group::{GroupCommitter, GroupContext, open_consumer};
use publisher::{Publisher, SharedPublisher};
use source::KafkaSource;
use transaction::GroupTransaction;

/// A member of a consumer group.
pub(crate) struct KafkaConsumer {
    consumer: Arc<BaseConsumer<GroupContext>>,
    config: KafkaSourceConfig,
}

impl KafkaConsumer {
    /// Connects and looks up the topics. The consumer joins the group only when its source runs.
    pub(crate) fn open(config: &KafkaSourceConfig) -> Result<KafkaConsumer, KafkaError> {
        Ok(KafkaConsumer { consumer: open_consumer(config)?, config: config.clone() })
    }

    /// The source that polls this consumer. From now on the run is not ready until partitions are assigned.
    pub(crate) fn source(&self) -> Box<dyn Source> {
        // This is reported before the run begins; otherwise the run would be ready for a moment.
        events::group_joining(&self.config.group);
        Box::new(KafkaSource {
            consumer: self.consumer.clone(),
            topics: self.config.topics.clone(),
            format: self.config.format,
            until_end: self.config.until_end,
        })
    }

    /// One line per topic, for `check`.
    pub(crate) fn report(&self) -> Result<Vec<String>, KafkaError> {
        report::source(&self.consumer, &self.config)
    }

    /// Commits the offsets of this consumer's group.
    pub(crate) fn committer(&self) -> Box<dyn OffsetCommitter> {
        Box::new(GroupCommitter { consumer: self.consumer.clone() })
    }
}

/// A producer for a topic, and for the topic of dead letters if there is one.
pub(crate) struct KafkaProducer(SharedPublisher);

impl KafkaProducer {
    /// Connects, checks that the topics exist and could take what is sent to them, and initializes transactions if they are
    /// used.
    pub(crate) fn open(
        sink: &KafkaSinkConfig,
        cluster: &Cluster,
        dead_letter_topic: Option<&str>,
        transactions: TransactionMode,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let publisher = Publisher::open(sink, cluster, dead_letter_topic, transactions, schema_hash)?;
        Ok(KafkaProducer(SharedPublisher::new(publisher)))
    }

    /// A producer for dead letters alone, of a pipeline that writes no rows to Kafka.
    pub(crate) fn open_for_dead_letters(
        topic: &str,
        cluster: &Cluster,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let publisher = Publisher::open_for_dead_letters(topic, cluster, schema_hash)?;
        Ok(KafkaProducer(SharedPublisher::new(publisher)))
    }

    /// Publishes rows.
    pub(crate) fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.0.clone())
    }

    /// One line per topic, for `check`.
    pub(crate) fn report(&self) -> Vec<String> {
        self.0.lock().report()
    }

    /// Publishes dead letters.
    pub(crate) fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        Box::new(self.0.clone())
    }

    /// The checkpoint of a run over files, stored in this producer's transactions. `topic` is the sink's.
    pub(crate) fn checkpoint(
        &self,
        name: &str,
        topic: &str,
        cluster: &Cluster,
        fingerprints: InputFingerprints,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        KafkaCheckpoint::open(name, topic, cluster, self.0.clone(), fingerprints)
    }

    /// A transaction of this producer that also commits the offsets of the consumer's group.
    pub(crate) fn transaction(&self, consumer: &KafkaConsumer) -> Box<dyn Transaction<NextOffsets>> {
        Box::new(GroupTransaction { publisher: self.0.clone(), consumer: consumer.consumer.clone() })
    }
}

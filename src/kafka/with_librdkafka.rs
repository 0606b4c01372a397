//! Kafka's two ends, as the rest of embedmill opens them.

use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;

use super::KafkaError;
pub use super::checkpoint::KafkaCheckpoint;
use super::config::{KafkaSinkConfig, KafkaSourceConfig, Properties};
use super::group::{Group, GroupCommits, open};
pub use super::publisher::Transactions;
use super::publisher::{Publisher, Shared};
pub use super::replay::{Replayed, Wanted, replay};
use super::report;
use super::source::KafkaSource;
use super::transaction::GroupTransaction;
use crate::dead_letter::DeadLetterSink;
use crate::delivery::{Commits, Ends, Transaction};
use crate::sink::Sink;
use crate::source::Source;
use crate::source::file::Marks;
use crate::telemetry::events;

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

    pub fn commits(&self) -> Box<dyn Commits> {
        Box::new(GroupCommits { consumer: self.consumer.clone() })
    }
}

/// A producer to a topic, and to the dead letters' topic.
pub struct KafkaProducer(Shared);

impl KafkaProducer {
    /// Connects, looks for the topics and their limits, and makes sure that transactions can be begun where they are
    /// wanted.
    pub fn open(
        sink: &KafkaSinkConfig,
        cluster: (&str, &Properties),
        dead_letter_topic: Option<&str>,
        transactions: Transactions,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let publisher = Publisher::open(sink, cluster, dead_letter_topic, transactions, schema_hash)?;
        Ok(KafkaProducer(Shared::new(publisher)))
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
        cluster: (&str, &Properties),
        marks: Marks,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        KafkaCheckpoint::open(name, topic, cluster, self.0.clone(), marks)
    }

    pub fn transaction(&self, consumer: &KafkaConsumer) -> Box<dyn Transaction<Ends>> {
        Box::new(GroupTransaction { publisher: self.0.clone(), consumer: consumer.consumer.clone() })
    }
}

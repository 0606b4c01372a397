//! Kafka's two ends, as the rest of embedmill opens them.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::BaseConsumer;

use super::KafkaError;
use super::config::{KafkaSinkConfig, KafkaSourceConfig, Properties};
use super::group::{Group, GroupCommits, open};
use super::publisher::{Publisher, Shared};
use super::source::KafkaSource;
use super::transaction::GroupTransaction;
use crate::dead_letter::DeadLetterSink;
use crate::delivery::{Commits, Transaction};
use crate::sink::Sink;
use crate::source::Source;
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
        transactional: bool,
        schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        let publisher = Publisher::open(sink, cluster, dead_letter_topic, transactional, schema_hash)?;
        Ok(KafkaProducer(Shared::new(publisher)))
    }

    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.0.clone())
    }

    pub fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        Box::new(self.0.clone())
    }

    pub fn transaction(&self, consumer: &KafkaConsumer) -> Box<dyn Transaction> {
        let (publisher, consumer) = (self.0.clone(), consumer.consumer.clone());
        Box::new(GroupTransaction { publisher, consumer, began: Instant::now() })
    }
}

//! Kafka's two ends in a build without librdkafka: nothing opens.

use super::KafkaError;
use super::config::{KafkaSinkConfig, KafkaSourceConfig, Properties};
use crate::dead_letter::DeadLetterSink;
use crate::delivery::{Commits, Transaction};
use crate::sink::Sink;
use crate::source::Source;

/// There is none.
pub enum KafkaConsumer {}

impl KafkaConsumer {
    pub fn open(_config: &KafkaSourceConfig) -> Result<KafkaConsumer, KafkaError> {
        Err(KafkaError::NotBuilt)
    }

    pub fn source(&self) -> Box<dyn Source> {
        match *self {}
    }

    pub fn commits(&self) -> Box<dyn Commits> {
        match *self {}
    }
}

/// There is none.
pub enum KafkaProducer {}

impl KafkaProducer {
    pub fn open(
        _sink: &KafkaSinkConfig,
        _cluster: (&str, &Properties),
        _dead_letter_topic: Option<&str>,
        _transactional: bool,
        _schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        Err(KafkaError::NotBuilt)
    }

    pub fn sink(&self) -> Box<dyn Sink> {
        match *self {}
    }

    pub fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        match *self {}
    }

    pub fn transaction(&self, _consumer: &KafkaConsumer) -> Box<dyn Transaction> {
        match *self {}
    }
}

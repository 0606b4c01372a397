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

    pub fn report(&self) -> Result<Vec<String>, KafkaError> {
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

    pub fn report(&self) -> Vec<String> {
        match *self {}
    }

    pub fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        match *self {}
    }

    pub fn transaction(&self, _consumer: &KafkaConsumer) -> Box<dyn Transaction> {
        match *self {}
    }
}

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replayed {
    pub put_back: u64,
    pub incomplete: u64,
    pub others: u64,
    pub other_stages: u64,
}

/// Which letters are put back.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub stage: Option<String>,
    pub dry_run: bool,
}

pub fn replay(_source: &KafkaSourceConfig, _topic: &str, _wanted: &Wanted) -> Result<Replayed, KafkaError> {
    Err(KafkaError::NotBuilt)
}

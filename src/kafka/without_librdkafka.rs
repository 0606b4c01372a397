//! Kafka's two ends in a build without librdkafka: nothing opens.

use super::KafkaError;
use super::config::{KafkaSinkConfig, KafkaSourceConfig, Properties};
use crate::dead_letter::DeadLetterSink;
use crate::delivery::{Commits, Ends, Transaction};
use crate::record::Position;
use crate::sink::Sink;
use crate::source::Source;
use crate::source::file::{Marks, Resume};

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
        _transactions: Transactions,
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

    pub fn checkpoint(
        &self,
        _name: &str,
        _topic: &str,
        _cluster: (&str, &Properties),
        _marks: Marks,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        match *self {}
    }

    pub fn transaction(&self, _consumer: &KafkaConsumer) -> Box<dyn Transaction<Ends>> {
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

/// Whether and how windows are transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transactions {
    No,
    Unique,
    Named(String),
}

/// There is none.
pub enum KafkaCheckpoint {}

impl KafkaCheckpoint {
    pub fn resume(&self) -> Result<Option<Resume>, KafkaError> {
        match *self {}
    }
}

impl Transaction<Position> for KafkaCheckpoint {
    fn begin(&mut self) -> Result<(), KafkaError> {
        match *self {}
    }

    fn commit(&mut self, _last: &Position) -> Result<(), KafkaError> {
        match *self {}
    }

    fn abort(&mut self) -> Result<(), KafkaError> {
        match *self {}
    }
}

//! The Kafka clients of a build without librdkafka: opening any of them fails with [`KafkaError::NotBuilt`].

use super::config::{KafkaSinkConfig, KafkaSourceConfig};
use super::{Cluster, KafkaError, ReplayOptions, ReplaySummary, TransactionMode};
use crate::delivery::{NextOffsets, OffsetCommitter, Transaction};
use crate::failure::ClientError;
use crate::record::Position;
use crate::sink::{DeadLetterSink, Sink};
use crate::source::Source;
use crate::source::file::{InputFingerprints, Resume};

/// Never exists in this build.
pub(crate) enum KafkaConsumer {}

impl KafkaConsumer {
    pub(crate) fn open(_config: &KafkaSourceConfig) -> Result<KafkaConsumer, KafkaError> {
        Err(KafkaError::NotBuilt)
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        match *self {}
    }

    pub(crate) fn report(&self) -> Result<Vec<String>, KafkaError> {
        match *self {}
    }

    pub(crate) fn committer(&self) -> Box<dyn OffsetCommitter> {
        match *self {}
    }
}

/// Never exists in this build.
pub(crate) enum KafkaProducer {}

impl KafkaProducer {
    pub(crate) fn open(
        _sink: &KafkaSinkConfig,
        _cluster: &Cluster,
        _dead_letter_topic: Option<&str>,
        _transactions: TransactionMode,
        _schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        Err(KafkaError::NotBuilt)
    }

    pub(crate) fn open_for_dead_letters(
        _topic: &str,
        _cluster: &Cluster,
        _schema_hash: String,
    ) -> Result<KafkaProducer, KafkaError> {
        Err(KafkaError::NotBuilt)
    }

    pub(crate) fn sink(&self) -> Box<dyn Sink> {
        match *self {}
    }

    pub(crate) fn report(&self) -> Vec<String> {
        match *self {}
    }

    pub(crate) fn dead_letters(&self) -> Box<dyn DeadLetterSink> {
        match *self {}
    }

    pub(crate) fn checkpoint(
        &self,
        _name: &str,
        _topic: &str,
        _cluster: &Cluster,
        _fingerprints: InputFingerprints,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        match *self {}
    }

    pub(crate) fn transaction(&self, _consumer: &KafkaConsumer) -> Box<dyn Transaction<NextOffsets>> {
        match *self {}
    }
}

pub(crate) fn replay(
    _source: &KafkaSourceConfig,
    _topic: &str,
    _options: &ReplayOptions,
) -> Result<ReplaySummary, KafkaError> {
    Err(KafkaError::NotBuilt)
}

/// Never exists in this build.
pub(crate) enum KafkaCheckpoint {}

impl KafkaCheckpoint {
    pub(crate) fn resume(&self) -> Result<Option<Resume>, KafkaError> {
        match *self {}
    }
}

impl Transaction<Position> for KafkaCheckpoint {
    fn begin(&mut self) -> Result<(), ClientError> {
        match *self {}
    }

    fn commit(&mut self, _last: &Position) -> Result<(), ClientError> {
        match *self {}
    }

    fn abort(&mut self) -> Result<(), ClientError> {
        match *self {}
    }
}

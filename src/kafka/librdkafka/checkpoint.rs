//! How far a run over files has come, kept in the sink's cluster: the position goes with the rows in one transaction, as
//! the offset of a consumer group that nobody is a member of. Its metadata says which file, which record comes next, and a
//! mark of the files before, by which a later run sees whether they are still the same.
//!
//! One run of a checkpoint at a time: they share a transactional id, so one that begins ends the one before it.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{QUERY_MAX, configuration, creation, explained, failed};
use super::limits::TRANSACTION_CALL_MAX;
use super::publisher::SharedPublisher;
use crate::delivery::Transaction;
use crate::failure::{ClientError, Failure};
use crate::kafka::{Cluster, KafkaError};
use crate::record::{Partition, Position};
use crate::source::file::{InputFingerprints, Resume};

pub struct KafkaCheckpoint {
    publisher: SharedPublisher,
    consumer: BaseConsumer,
    name: String,
    topic: String,
    marks: InputFingerprints,
}

impl KafkaCheckpoint {
    pub(super) fn open(
        name: &str,
        topic: &str,
        cluster: &Cluster,
        publisher: SharedPublisher,
        marks: InputFingerprints,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        let properties = [("group.id", name), ("enable.auto.commit", "false")];
        let consumer = configuration(cluster, &properties).create().map_err(creation)?;
        Ok(KafkaCheckpoint { publisher, consumer, name: name.into(), topic: topic.into(), marks })
    }

    /// Where to go on; `None` at the beginning.
    ///
    /// # Errors
    /// If the files are not those of then.
    pub fn resume(&self) -> Result<Option<Resume>, KafkaError> {
        let refused = |message: String| KafkaError::Failed {
            what: format!("source.files.checkpoint: `{}`", self.name),
            message,
            failure: Failure::Fatal,
        };
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let committed = self.consumer.committed_offsets(asked, QUERY_MAX);
        let committed =
            committed.map_err(|error| failed(format!("source.files.checkpoint: `{}`", self.name), &error))?;
        let elements = committed.elements();
        let Some(element) = elements.first().filter(|element| element.offset() != Offset::Invalid) else {
            return Ok(None);
        };
        let metadata = element.metadata();
        let mut parts = metadata.splitn(3, ' ');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (Some(ordinal), Some(next), Some(mark)) = (number(), number(), parts.next()) else {
            return Err(refused(format!(
                "the group of that name holds {metadata:?}, which is no checkpoint; choose another name"
            )));
        };
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        if self.marks.of(ordinal) != Some(mark) {
            return Err(refused(format!(
                "the inputs before number {} are not those of the earlier run: one came, went or changed its size; to \
                 embed all of them anew, choose another name",
                u64::from(ordinal) + 1
            )));
        }
        Ok(Some(Resume { ordinal, next }))
    }

    fn failed(&self, what: &str, error: &RdKafkaError) -> KafkaError {
        let fatal = matches!(error, RdKafkaError::Transaction(error) if error.is_fatal());
        let message = match fatal {
            true => format!("{}; has another run with this checkpoint begun? only one can go on", explained(error)),
            false => explained(error),
        };
        let failure = if fatal { Failure::Fatal } else { Failure::Retry };
        KafkaError::Failed { what: format!("checkpoint `{}`: {what}", self.name), message, failure }
    }
}

impl Transaction<Position> for KafkaCheckpoint {
    fn begin(&mut self) -> Result<(), ClientError> {
        let publisher = self.publisher.lock();
        *publisher.producer.context().failed() = None;
        publisher.producer.begin_transaction().map_err(|error| self.failed("beginning", &error))?;
        Ok(())
    }

    fn commit(&mut self, last: &Position) -> Result<(), ClientError> {
        let publisher = self.publisher.lock();
        // First, as for every transaction; see `transaction.rs`.
        publisher.flush()?;
        let Partition::File { ordinal, .. } = &*last.partition else { return Ok(()) };
        let next = last.offset + 1;
        let mut position = TopicPartitionList::new();
        let added = position.add_partition_offset(&self.topic, 0, Offset::Offset(next as i64));
        added.map_err(|error| self.failed("its position", &error))?;
        let mark = self.marks.of(*ordinal).unwrap_or_default();
        if let Some(mut element) = position.find_partition(&self.topic, 0) {
            element.set_metadata(format!("{ordinal} {next} {mark}"));
        }
        let metadata = self.consumer.group_metadata().ok_or_else(|| KafkaError::Failed {
            what: format!("checkpoint `{}`", self.name),
            message: "the consumer has no group".into(),
            failure: Failure::Fatal,
        })?;
        let producer = &publisher.producer;
        let sent = producer.send_offsets_to_transaction(&position, &metadata, TRANSACTION_CALL_MAX);
        sent.map_err(|error| self.failed("sending the position", &error))?;
        producer.commit_transaction(TRANSACTION_CALL_MAX).map_err(|error| self.failed("committing", &error))?;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), ClientError> {
        let publisher = self.publisher.lock();
        publisher.producer.poll(std::time::Duration::ZERO);
        publisher.producer.abort_transaction(TRANSACTION_CALL_MAX).map_err(|error| self.failed("aborting", &error))?;
        Ok(())
    }
}

//! The progress of a run over files, stored in the sink's cluster: each window's transaction also commits an offset of a
//! consumer group without members. The metadata of that offset holds the input's number, the next record, and a fingerprint
//! of the inputs before it, by which a later run recognises whether they are still the same.
//!
//! Only one run per checkpoint can be active: they share a transactional id, so a new run fences the previous one.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{QUERY_MAX, configuration, creation_failed, described, operation_failed, with_hint};
use super::limits::TRANSACTION_CALL_MAX;
use super::publisher::SharedPublisher;
use crate::delivery::Transaction;
use crate::failure::{ClientError, Failure};
use crate::kafka::checkpoint_metadata::CheckpointMetadata;
use crate::kafka::{Cluster, KafkaError};
use crate::record::{Partition, Position};
use crate::source::file::{InputFingerprints, Resume};

/// A named checkpoint, and the publisher whose transactions store it.
pub(crate) struct KafkaCheckpoint {
    publisher: SharedPublisher,
    /// Reads the group's offset, and provides the group's metadata for transactions. It never joins the group.
    consumer: BaseConsumer,
    name: String,
    topic: String,
    fingerprints: InputFingerprints,
}

impl KafkaCheckpoint {
    /// `topic` is the sink's: the offset is committed for its first partition.
    pub(super) fn open(
        name: &str,
        topic: &str,
        cluster: &Cluster,
        publisher: SharedPublisher,
        fingerprints: InputFingerprints,
    ) -> Result<KafkaCheckpoint, KafkaError> {
        let properties = [("group.id", name), ("enable.auto.commit", "false")];
        let consumer = configuration(cluster, &properties).create().map_err(creation_failed)?;
        Ok(KafkaCheckpoint { publisher, consumer, name: name.into(), topic: topic.into(), fingerprints })
    }

    /// Where to resume; `None` to start at the beginning.
    ///
    /// # Errors
    /// If the inputs before that point are not those of the earlier run, or the group holds something else.
    pub(crate) fn resume(&self) -> Result<Option<Resume>, KafkaError> {
        let subject = || format!("source.files.checkpoint: {:?}", self.name);
        let refuse = |message: String| KafkaError::Failed { subject: subject(), message, failure: Failure::Fatal };
        let mut partition = TopicPartitionList::new();
        partition.add_partition(&self.topic, 0);
        let committed = self.consumer.committed_offsets(partition, QUERY_MAX);
        let committed = committed.map_err(|error| operation_failed(subject(), &error))?;
        let elements = committed.elements();
        let Some(element) = elements.first().filter(|element| element.offset() != Offset::Invalid) else {
            return Ok(None);
        };
        let CheckpointMetadata { ordinal, next, fingerprint } = element.metadata().parse().map_err(refuse)?;
        if self.fingerprints.of(ordinal) != Some(fingerprint.as_str()) {
            return Err(refuse(format!(
                "the inputs before number {} have changed since the earlier run: one was added, removed or resized; \
                 expected the same inputs (to embed all of them again, choose another name)",
                u64::from(ordinal) + 1
            )));
        }
        Ok(Some(Resume { ordinal, next }))
    }

    fn failed(&self, call: &str, error: &RdKafkaError) -> KafkaError {
        let is_fatal = matches!(error, RdKafkaError::Transaction(error) if error.is_fatal());
        let hint = is_fatal.then_some("another run may have started with this checkpoint; only one can continue");
        let failure = if is_fatal { Failure::Fatal } else { Failure::Retry };
        let message = with_hint(&described(error), hint);
        KafkaError::Failed { subject: format!("checkpoint {:?}: {call}", self.name), message, failure }
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
        // Before anything else, as in every transaction; `transaction.rs` says why.
        publisher.flush()?;
        let Partition::File { ordinal, .. } = &*last.partition else { return Ok(()) };
        let next = last.offset + 1;
        let mut offsets = TopicPartitionList::new();
        let added = offsets.add_partition_offset(&self.topic, 0, Offset::Offset(next as i64));
        added.map_err(|error| self.failed("setting the offset", &error))?;
        let fingerprint = self.fingerprints.of(*ordinal).unwrap_or_default().to_owned();
        let checkpoint = CheckpointMetadata { ordinal: *ordinal, next, fingerprint };
        if let Some(mut element) = offsets.find_partition(&self.topic, 0) {
            element.set_metadata(checkpoint.to_string());
        }
        let metadata = self.consumer.group_metadata().ok_or_else(|| KafkaError::Failed {
            subject: format!("checkpoint {:?}", self.name),
            message: "the consumer has no group".into(),
            failure: Failure::Fatal,
        })?;
        let producer = &publisher.producer;
        let sent = producer.send_offsets_to_transaction(&offsets, &metadata, TRANSACTION_CALL_MAX);
        sent.map_err(|error| self.failed("sending the offset", &error))?;
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

//! A window as one transaction: the messages that the publisher sends, and the group's offsets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::producer::Producer;

use super::client::transaction_failed;
use super::group::{GroupContext, offset_list};
use super::limits::TRANSACTION_CALL_MAX;
use super::publisher::SharedPublisher;
use crate::delivery::{NextOffsets, Transaction};
use crate::failure::{ClientError, Failure};
use crate::kafka::KafkaError;

/// How long one call that aborts may take. A call that timed out is resumed by the next one.
const ABORT_CALL_MAX: Duration = Duration::from_secs(1);
/// The pause before a call that failed at once is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A transaction of the publisher that also commits the offsets of a consumer group.
pub(super) struct GroupTransaction {
    pub publisher: SharedPublisher,
    pub consumer: Arc<BaseConsumer<GroupContext>>,
}

impl Transaction<NextOffsets> for GroupTransaction {
    fn begin(&mut self) -> Result<(), ClientError> {
        let mut publisher = self.publisher.lock();
        *publisher.producer.context().failed() = None;
        match publisher.producer.begin_transaction() {
            Ok(()) => Ok(()),
            // An earlier abort may have left the producer in a state that only a new producer is free of.
            Err(error) => {
                tracing::warn!(%error, "beginning a transaction failed");
                publisher.renew()?;
                let begun = publisher.producer.begin_transaction();
                Ok(begun.map_err(|error| transaction_failed("beginning", &error))?)
            }
        }
    }

    fn commit(&mut self, offsets: &NextOffsets) -> Result<(), ClientError> {
        let publisher = self.publisher.lock();
        // The flush comes first, so that no message can fail during the next call: librdkafka 2.12 would then forget to
        // answer it (`_OUTDATED` in its handler of TxnOffsetCommit), and the call would never return.
        publisher.flush()?;
        // The metadata must be the present one: by it the coordinator fences a member of an earlier generation.
        let metadata = self.consumer.group_metadata().filter(|_| !self.consumer.assignment_lost());
        let metadata = metadata.ok_or_else(|| KafkaError::Failed {
            subject: "consumer group".into(),
            message: "this process is not a member".into(),
            failure: Failure::Retry,
        })?;
        retry_call("sending offsets", || {
            publisher.producer.send_offsets_to_transaction(&offset_list(offsets), &metadata, TRANSACTION_CALL_MAX)
        })?;
        Ok(retry_call("committing", || publisher.producer.commit_transaction(TRANSACTION_CALL_MAX))?)
    }

    fn abort(&mut self) -> Result<(), ClientError> {
        let mut publisher = self.publisher.lock();
        // An abort waits for the acknowledgements of everything sent, which rdkafka's call does not process itself.
        let abort = || {
            publisher.producer.poll(Duration::ZERO);
            publisher.producer.abort_transaction(ABORT_CALL_MAX)
        };
        match retry_call("aborting", abort) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "aborting a transaction failed; the coordinator will abort it after its timeout");
                Ok(publisher.renew()?)
            }
        }
    }
}

/// Repeats a call for as long as its error says that it can be retried. This is bounded by two calls' time; delivery's own
/// deadline for the window is longer.
fn retry_call(name: &str, mut call: impl FnMut() -> Result<(), RdKafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + 2 * TRANSACTION_CALL_MAX;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(RdKafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::warn!(%error, code = error.name(), call = name, "retrying a transaction's call");
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(transaction_failed(name, &error)),
        }
    }
}

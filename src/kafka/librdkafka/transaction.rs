//! A window as one transaction: what the publisher sends, and the group's positions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::producer::Producer;

use super::client::transaction;
use super::group::{Group, list};
use super::limits::TRANSACTION_CALL_MAX;
use super::publisher::SharedPublisher;
use crate::delivery::{NextOffsets, Transaction};
use crate::failure::{ClientError, Failure};
use crate::kafka::KafkaError;

/// One call of an abort, which is resumed by the next.
const ABORT_STEP: Duration = Duration::from_secs(1);
/// Between tries of a call that fails at once.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// TransactionMode of the publisher with a group's positions.
pub struct GroupTransaction {
    pub publisher: SharedPublisher,
    pub consumer: Arc<BaseConsumer<Group>>,
}

impl Transaction<NextOffsets> for GroupTransaction {
    fn begin(&mut self) -> Result<(), ClientError> {
        let mut publisher = self.publisher.lock();
        *publisher.producer.context().failed() = None;
        match publisher.producer.begin_transaction() {
            Ok(()) => Ok(()),
            // Whatever an earlier abort left behind, a new producer is free of it.
            Err(error) => {
                tracing::warn!(%error, "a transaction could not be begun");
                publisher.renew()?;
                Ok(publisher.producer.begin_transaction().map_err(|error| transaction("beginning", &error))?)
            }
        }
    }

    fn commit(&mut self, ends: &NextOffsets) -> Result<(), ClientError> {
        let publisher = self.publisher.lock();
        // First, so that no message can fail during the next call: librdkafka 2.12 then forgets to answer it
        // (`_OUTDATED` in its handler of TxnOffsetCommit), and the call never returns.
        publisher.flush()?;
        // With the metadata of now, the coordinator refuses a member whose generation is over.
        let metadata = self.consumer.group_metadata().filter(|_| !self.consumer.assignment_lost());
        let metadata = metadata.ok_or_else(|| KafkaError::Failed {
            what: "the group".into(),
            message: "this process is no member".into(),
            failure: Failure::Retry,
        })?;
        retried("sending positions", || {
            publisher.producer.send_offsets_to_transaction(&list(ends), &metadata, TRANSACTION_CALL_MAX)
        })?;
        Ok(retried("committing", || publisher.producer.commit_transaction(TRANSACTION_CALL_MAX))?)
    }

    fn abort(&mut self) -> Result<(), ClientError> {
        let mut publisher = self.publisher.lock();
        // An abort waits until what was sent is acknowledged, and this call of rdkafka's does not take acknowledgements in.
        let abort = || {
            publisher.producer.poll(Duration::ZERO);
            publisher.producer.abort_transaction(ABORT_STEP)
        };
        match retried("aborting", abort) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a transaction could not be aborted; the coordinator will");
                Ok(publisher.renew()?)
            }
        }
    }
}

/// Goes on where a call that may be retried had stopped; the window's own deadline is around it.
fn retried(what: &str, mut call: impl FnMut() -> Result<(), RdKafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + 2 * TRANSACTION_CALL_MAX;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(RdKafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::warn!(%error, code = error.name(), what, "transaction call is retried");
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(transaction(what, &error)),
        }
    }
}

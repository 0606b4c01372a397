//! Errors that a real broker rarely returns, from rdkafka's mock cluster. The mock stores no transactions, so it proves
//! nothing about exactly-once delivery; it shows which errors are transient, which stop the run, and that the next attempt
//! can begin.

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};

use super::group::{GroupCommitter, open_consumer};
use super::producer::ProducerSettings;
use super::publisher::{Publisher, SharedPublisher};
use super::topic::Topic;
use super::transaction::GroupTransaction;
use crate::delivery::{OffsetCommitter, Transaction};
use crate::failure::Failure;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::kafka::{Cluster, Properties, TransactionMode};
use crate::record::{DeadLetter, Partition, Position, Stage};
use crate::sink::DeadLetterSink;

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in ["in", "out", "dead"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    cluster
}

/// The mock cluster does not report the settings of topics, so they are given here.
fn publisher(cluster: &MockCluster<'static, DefaultProducerContext>, transactions: TransactionMode) -> SharedPublisher {
    let topic = |name: &str| Topic { name: name.into(), partitions: 1 };
    let settings = ProducerSettings {
        cluster: Cluster {
            brokers: cluster.bootstrap_servers(),
            properties: Properties::from([("retry.backoff.ms".into(), "10".into())]),
        },
        sink: KafkaSinkConfig { topic: "out".into(), ..KafkaSinkConfig::default() },
        transactions,
        row_message_bytes_max: 1_000_000,
        dead_letter_bytes_max: 1_000_000,
    };
    let publisher = Publisher::to_topics(settings, topic("out"), Some(topic("dead")), String::new());
    SharedPublisher::new(publisher.expect("the mock cluster takes producers"))
}

fn dead_letter() -> DeadLetter {
    let partition = Arc::new(Partition::Topic { topic: "in".into(), partition: 0, epoch: 1 });
    DeadLetter {
        position: Position { partition, offset: 7 },
        stage: Stage::Extract,
        cause: "a test".into(),
        raw: Some("{".into()),
        envelope: None,
    }
}

fn committer(cluster: &MockCluster<'static, DefaultProducerContext>) -> GroupCommitter {
    let config = KafkaSourceConfig {
        brokers: cluster.bootstrap_servers(),
        topics: vec!["in".into()],
        group: "g".into(),
        ..KafkaSourceConfig::default()
    };
    GroupCommitter { consumer: open_consumer(&config).expect("the mock cluster has the topic") }
}

#[test]
fn transient_errors_are_overcome_and_refusals_are_not() {
    let cluster = cluster();
    let check = |error: Error, expected: Option<Failure>| {
        let mut sink = publisher(&cluster, TransactionMode::None);
        cluster.request_errors(Api::Produce, &[error, error]);
        let written = sink.write(&dead_letter()).and_then(|()| sink.flush());
        cluster.clear_request_errors(Api::Produce);
        assert_eq!(written.as_ref().err().map(|error| error.failure()), expected, "{error:?}: {written:?}");
    };
    check(Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, None);
    check(Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, None);
    check(Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, None);
    check(Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Some(Failure::Fatal));
    check(Error::RD_KAFKA_RESP_ERR_INVALID_RECORD, Some(Failure::Fatal));
}

#[test]
fn a_transaction_that_fails_is_tried_again_and_a_refused_one_is_not() {
    let cluster = cluster();
    let check = |api: Api, error: Error, expected: Option<Failure>| {
        let publisher = publisher(&cluster, TransactionMode::RandomId);
        let mut sink = publisher.clone();
        let mut transaction = GroupTransaction { publisher, consumer: committer(&cluster).consumer };
        cluster.request_errors(api, &[error]);
        let mut once = |transaction: &mut GroupTransaction| -> Result<(), crate::delivery::DeliveryError> {
            transaction.begin()?;
            sink.write(&dead_letter())?;
            transaction.commit(&[(("in".into(), 0), 8)])?;
            Ok(())
        };
        let first = once(&mut transaction);
        assert_eq!(first.as_ref().err().map(|error| error.failure()), expected, "{error:?}: {first:?}");
        cluster.clear_request_errors(api);
        if expected == Some(Failure::Retry) {
            transaction.abort().expect("it can be aborted, or there is a new producer");
            once(&mut transaction).expect("the next attempt succeeds");
        }
    };
    check(Api::AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, None);
    check(Api::TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None);
    check(Api::EndTxn, Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, None);
    check(Api::AddPartitionsToTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Some(Failure::Retry));
    check(Api::TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Some(Failure::Retry));
    check(Api::TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Some(Failure::Retry));
    check(Api::EndTxn, Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Some(Failure::Retry));
    check(Api::TxnOffsetCommit, Error::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Some(Failure::Fatal));
}

#[test]
fn the_final_commit_is_tried_again_during_a_rebalance() {
    let cluster = cluster();
    let committer = committer(&cluster);
    let assignment = committer.consumer.context().assignment.clone();
    assignment.assign([("in".into(), 0)]);
    let partition = assignment.partition("in", 0).expect("it was just assigned");
    assignment.hand_out(&partition, 8);
    committer.lock().settle(&partition, 8, false);
    cluster.request_errors(Api::OffsetCommit, &[Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    Box::new(committer).finish().expect("the second attempt succeeds");
}

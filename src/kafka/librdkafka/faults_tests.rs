//! Errors that a real broker seldom gives, from rdkafka's mock cluster. It stores no transaction, so it proves nothing of
//! exactly once; what it shows is which errors pass, which end the run, and that the next try can begin.

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};

use super::group::{GroupOffsets, open};
use super::publisher::{Publisher, Settings, SharedPublisher, TransactionMode};
use super::topic::Topic;
use super::transaction::GroupTransaction;
use crate::delivery::{OffsetCommitter, Transaction};
use crate::failure::Failure;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Properties};
use crate::record::DeadLetter;
use crate::record::{Partition, Position, Stage};
use crate::sink::DeadLetterSink;

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in ["in", "out", "dead"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    cluster
}

/// The mock cluster does not tell a topic's settings, so they are given.
fn publisher(cluster: &MockCluster<'static, DefaultProducerContext>, transactions: TransactionMode) -> SharedPublisher {
    let topic = |name: &str| Topic { name: name.into(), partitions: 1 };
    let settings = Settings {
        brokers: cluster.bootstrap_servers(),
        properties: Properties::from([("retry.backoff.ms".into(), "10".into())]),
        sink: KafkaSinkConfig { topic: "out".into(), ..KafkaSinkConfig::default() },
        transactions,
        rows_bytes_max: 1_000_000,
        letter_bytes_max: 1_000_000,
    };
    let publisher = Publisher::to(settings, topic("out"), Some(topic("dead")), String::new());
    SharedPublisher::new(publisher.expect("the mock cluster takes producers"))
}

fn letter() -> DeadLetter {
    let partition = Arc::new(Partition::Topic { topic: "in".into(), partition: 0, epoch: 1 });
    DeadLetter {
        position: Position { partition, offset: 7 },
        stage: Stage::Extract,
        cause: "a test".into(),
        raw: Some("{".into()),
        envelope: None,
    }
}

fn group(cluster: &MockCluster<'static, DefaultProducerContext>) -> GroupOffsets {
    let config = KafkaSourceConfig {
        brokers: cluster.bootstrap_servers(),
        topics: vec!["in".into()],
        group: "g".into(),
        ..KafkaSourceConfig::default()
    };
    GroupOffsets { consumer: open(&config).expect("the mock cluster has the topic") }
}

#[test]
fn errors_of_bad_times_pass_and_refusals_do_not() {
    let cluster = cluster();
    let check = |error: Error, expected: Option<Failure>| {
        let mut letters = publisher(&cluster, TransactionMode::None);
        cluster.request_errors(Api::Produce, &[error, error]);
        let written = letters.write(&letter()).and_then(|()| letters.flush());
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
        let mut letters = publisher.clone();
        let mut transaction = GroupTransaction { publisher, consumer: group(&cluster).consumer };
        cluster.request_errors(api, &[error]);
        let mut once = |transaction: &mut GroupTransaction| -> Result<(), crate::delivery::DeliveryError> {
            transaction.begin()?;
            letters.write(&letter())?;
            transaction.commit(&[(("in".into(), 0), 8)])?;
            Ok(())
        };
        let first = once(&mut transaction);
        assert_eq!(first.as_ref().err().map(|error| error.failure()), expected, "{error:?}: {first:?}");
        cluster.clear_request_errors(api);
        if expected == Some(Failure::Retry) {
            transaction.abort().expect("it can be aborted, or the producer is a new one");
            once(&mut transaction).expect("the next try succeeds");
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
fn the_last_positions_are_tried_again_when_the_coordinator_moves() {
    let cluster = cluster();
    let commits = group(&cluster);
    let assignment = commits.consumer.context().assignment.clone();
    assignment.assign([("in".into(), 0)]);
    let partition = assignment.partition("in", 0).expect("it was just assigned");
    assignment.hand_out(&partition, 8);
    commits.hold().settle(&partition, 8, false);
    cluster.request_errors(Api::OffsetCommit, &[Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    Box::new(commits).finish().expect("the second try succeeds");
}

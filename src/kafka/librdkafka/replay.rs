//! Puts dead letters back into the topics that they came from: each with its value, key and headers as they were, into the
//! partition that it was read from. The messages and the offsets of the dead letters are one transaction, so a replay that
//! is killed and started again puts nothing back twice.
//!
//! A replay reads what was in the topic when it started. A dead letter whose value was left out, or that comes from a topic
//! that this pipeline does not read, stays where it is and is counted.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{QUERY_MAX, configuration, creation_failed, operation_failed};
use super::group::offset_list;
use super::limits::TRANSACTION_CALL_MAX;
use super::until_end::topic_names;
use crate::delivery::NextOffsets;
use crate::delivery::assignment::TopicPartition;
use crate::failure::Failure;
use crate::kafka::config::KafkaSourceConfig;
use crate::kafka::headers;
use crate::kafka::topic_names::TopicNames;
use crate::kafka::{KafkaError, ReplayOptions, ReplaySummary};

/// How many dead letters one transaction covers at most.
const TRANSACTION_MESSAGES_MAX: usize = 500;

/// Puts the dead letters in `topic` back into the topics that `source` reads.
///
/// # Errors
/// If the topic does not exist, or the brokers refuse this client or a message. Earlier transactions stay committed.
pub(crate) fn replay(
    source: &KafkaSourceConfig,
    topic: &str,
    options: &ReplayOptions,
) -> Result<ReplaySummary, KafkaError> {
    let cluster = source.cluster();
    let group = format!("{}.replay", source.group);
    let properties = [
        ("group.id", group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
    ];
    let consumer: BaseConsumer = configuration(&cluster, &properties).create().map_err(creation_failed)?;
    let unfinished = assign_all(&consumer, topic)?;
    let producer = (!options.dry_run).then(|| create_producer(source, &group)).transpose()?;
    let source_topics = topic_names(&source.topics)?;
    let summary = ReplaySummary::default();
    Replay { consumer, producer, topic, source_topics, options, unfinished, summary }.run()
}

/// Assigns all partitions of the topic, each from where the last replay stopped; returns their numbers.
fn assign_all(consumer: &BaseConsumer, topic: &str) -> Result<HashSet<i32>, KafkaError> {
    let failed = |error: RdKafkaError| operation_failed(format!("dead_letter: topic {topic:?}"), &error);
    let metadata = consumer.fetch_metadata(Some(topic), QUERY_MAX).map_err(failed)?;
    let found = metadata.topics().first();
    if let Some(error) = found.and_then(|found| found.error()) {
        return Err(failed(RdKafkaError::MetadataFetch(error.into())));
    }
    let numbers: HashSet<i32> =
        found.into_iter().flat_map(|found| found.partitions()).map(|partition| partition.id()).collect();
    let mut partitions = TopicPartitionList::new();
    for &number in &numbers {
        partitions.add_partition(topic, number);
    }
    let mut offsets = consumer.committed_offsets(partitions, QUERY_MAX).map_err(failed)?;
    for &number in &numbers {
        let is_new = offsets.find_partition(topic, number).is_none_or(|element| element.offset() == Offset::Invalid);
        if is_new {
            offsets.set_partition_offset(topic, number, Offset::Beginning).map_err(failed)?;
        }
    }
    consumer.assign(&offsets).map_err(failed)?;
    Ok(numbers)
}

fn create_producer(source: &KafkaSourceConfig, group: &str) -> Result<BaseProducer, KafkaError> {
    // Only one replay per group can be active: a second one fences the first.
    let id = format!("embedmill-{group}");
    let properties = [("enable.idempotence", "true"), ("transactional.id", id.as_str())];
    let config: ClientConfig = configuration(&source.cluster(), &properties);
    let producer: BaseProducer = config.create().map_err(creation_failed)?;
    let initialized = producer.init_transactions(TRANSACTION_CALL_MAX);
    initialized.map_err(|error| operation_failed("replay: initializing transactions", &error))?;
    Ok(producer)
}

/// A replay in progress.
struct Replay<'a> {
    consumer: BaseConsumer,
    /// `None` in a dry run.
    producer: Option<BaseProducer>,
    /// The topic of the dead letters.
    topic: &'a str,
    source_topics: TopicNames,
    options: &'a ReplayOptions,
    /// The partitions that are not yet read to their ends.
    unfinished: HashSet<i32>,
    summary: ReplaySummary,
}

impl Replay<'_> {
    fn run(mut self) -> Result<ReplaySummary, KafkaError> {
        while !self.unfinished.is_empty() {
            if let Some(producer) = &self.producer {
                let begun = producer.begin_transaction();
                begun.map_err(|error| operation_failed("replay: beginning a transaction", &error))?;
            }
            let offsets = self.replay_batch()?;
            if let Some(producer) = &self.producer {
                commit(&self.consumer, producer, &offsets)?;
            }
        }
        Ok(self.summary)
    }

    /// Reads the dead letters of one transaction and sends those that are to be put back; returns the offsets after them.
    fn replay_batch(&mut self) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let mut offsets: Vec<(TopicPartition, i64)> = Vec::new();
        let mut messages = 0;
        while messages < TRANSACTION_MESSAGES_MAX && !self.unfinished.is_empty() {
            let message = match self.consumer.poll(Duration::from_millis(100)) {
                None => continue,
                Some(Err(RdKafkaError::PartitionEOF(number))) => {
                    self.unfinished.remove(&number);
                    continue;
                }
                Some(Err(error)) => {
                    let error = operation_failed(format!("dead_letter: topic {:?}", self.topic), &error);
                    if error.failure() == Failure::Retry {
                        tracing::warn!(%error, "reading dead letters failed; trying again");
                        continue;
                    }
                    return Err(error);
                }
                Some(Ok(message)) => message,
            };
            messages += 1;
            match ReplayTarget::of(&message, &self.source_topics, self.options) {
                ReplayTarget::Partition(topic, partition) => {
                    if let Some(producer) = &self.producer {
                        send(producer, &message, &topic, partition)?;
                    }
                    self.summary.put_back += 1;
                }
                ReplayTarget::Incomplete => self.summary.incomplete += 1,
                ReplayTarget::OtherTopic => self.summary.others += 1,
                ReplayTarget::OtherStage => self.summary.other_stages += 1,
            }
            let (number, next) = (message.partition(), message.offset() + 1);
            match offsets.iter_mut().find(|((_, partition), _)| *partition == number) {
                Some((_, offset)) => *offset = next,
                None => offsets.push(((self.topic.into(), number), next)),
            }
        }
        Ok(offsets)
    }
}

/// Where a dead letter goes, or why it stays where it is.
enum ReplayTarget {
    /// The topic and partition that its record was read from.
    Partition(String, i32),
    /// Its value was left out.
    Incomplete,
    /// Its record is not from a topic that this pipeline reads.
    OtherTopic,
    /// It was rejected by a stage that was not asked for.
    OtherStage,
}

impl ReplayTarget {
    fn of(message: &BorrowedMessage<'_>, topics: &TopicNames, options: &ReplayOptions) -> ReplayTarget {
        if options.stage.as_deref().is_some_and(|stage| header(message, headers::STAGE) != Some(stage)) {
            return ReplayTarget::OtherStage;
        }
        // A position reads `topic[partition]@offset`.
        let partition = header(message, headers::POSITION).and_then(|position| {
            let (topic, rest) = position.rsplit_once('[')?;
            Some((topic, rest.split_once(']')?.0.parse::<i32>().ok()?))
        });
        match partition {
            Some((topic, _)) if !topics.contains(topic) => ReplayTarget::OtherTopic,
            None => ReplayTarget::OtherTopic,
            Some(_) if header(message, headers::VALUE_LEFT_OUT).is_some() => ReplayTarget::Incomplete,
            Some((topic, number)) => ReplayTarget::Partition(topic.into(), number),
        }
    }
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Sends the record as it was, and with it how often it was rejected.
fn send(producer: &BaseProducer, message: &BorrowedMessage<'_>, topic: &str, partition: i32) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new();
    for found in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        if found.key == headers::ATTEMPT || !found.key.starts_with(headers::PREFIX) {
            headers = headers.insert(Header { key: found.key, value: found.value });
        }
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).headers(headers);
    if let Some(key) = message.key() {
        record = record.key(key);
    }
    // The record of a delete has no value, and is put back without one.
    if let Some(value) = message.payload() {
        record = record.payload(value);
    }
    let sent = producer.send(record);
    producer.poll(Duration::ZERO);
    sent.map_err(|(error, _)| operation_failed(format!("topic {topic:?}"), &error))
}

fn commit(consumer: &BaseConsumer, producer: &BaseProducer, offsets: &NextOffsets) -> Result<(), KafkaError> {
    let failed = |error: RdKafkaError| operation_failed("replay: committing a transaction", &error);
    producer.flush(TRANSACTION_CALL_MAX).map_err(failed)?;
    if !offsets.is_empty() {
        let metadata = consumer.group_metadata().ok_or_else(|| KafkaError::Failed {
            subject: "replay".into(),
            message: "the consumer has no group".into(),
            failure: Failure::Fatal,
        })?;
        producer.send_offsets_to_transaction(&offset_list(offsets), &metadata, TRANSACTION_CALL_MAX).map_err(failed)?;
    }
    producer.commit_transaction(TRANSACTION_CALL_MAX).map_err(failed)
}

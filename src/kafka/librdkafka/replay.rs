//! Dead letters back into the topics that they came from: value, key and headers as they were, to the partition they were
//! in. Messages and the positions of the dead letters are one transaction, so a replay that is killed and started again
//! puts nothing back twice.
//!
//! What is read is what was there at the start. A letter whose value was left out, or that is not of this pipeline's
//! topics, stays where it is and is counted.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{QUERY_MAX, configuration, creation, failed};
use super::dead_letters::{ATTEMPT, VALUE_LEFT_OUT};
use super::group::list;
use super::limits::TRANSACTION_CALL_MAX;
use super::until_end::names;
use crate::delivery::assignment::TopicPartition;
use crate::failure::Failure;
use crate::kafka::config::KafkaSourceConfig;
use crate::kafka::topic_names::TopicNames;
use crate::kafka::{KafkaError, ReplayOptions, ReplaySummary};

/// Messages of one transaction.
const TRANSACTION_MESSAGES: usize = 500;

/// Puts the letters in `topic` back into the topics that `source` reads.
pub fn replay(source: &KafkaSourceConfig, topic: &str, wanted: &ReplayOptions) -> Result<ReplaySummary, KafkaError> {
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
    let consumer: BaseConsumer = configuration(&cluster, &properties).create().map_err(creation)?;
    let mut open = assign(&consumer, topic)?;
    let producer = (!wanted.dry_run).then(|| producer(source, &group)).transpose()?;
    let topics = names(&source.topics)?;
    let mut replayed = ReplaySummary::default();
    while !open.is_empty() {
        if let Some(producer) = &producer {
            producer.begin_transaction().map_err(|error| failed("replay: beginning", &error))?;
        }
        let ends = batch(&consumer, topic, &mut open, producer.as_ref(), (&topics, wanted), &mut replayed)?;
        if let Some(producer) = &producer {
            commit(&consumer, producer, &ends)?;
        }
    }
    Ok(replayed)
}

/// Assigns all partitions of the topic, where the last replay stopped; returns the numbers of those that have letters.
fn assign(consumer: &BaseConsumer, topic: &str) -> Result<HashSet<i32>, KafkaError> {
    let failed = |error: RdKafkaError| failed(format!("dead_letter: topic `{topic}`"), &error);
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
    let mut placed = consumer.committed_offsets(partitions, QUERY_MAX).map_err(failed)?;
    for &number in &numbers {
        let is_new = placed.find_partition(topic, number).is_none_or(|element| element.offset() == Offset::Invalid);
        if is_new {
            placed.set_partition_offset(topic, number, Offset::Beginning).map_err(failed)?;
        }
    }
    consumer.assign(&placed).map_err(failed)?;
    Ok(numbers)
}

fn producer(source: &KafkaSourceConfig, group: &str) -> Result<BaseProducer, KafkaError> {
    // One replay of a group at a time: a second one ends the first.
    let id = format!("embedmill-{group}");
    let properties = [("enable.idempotence", "true"), ("transactional.id", id.as_str())];
    let config: ClientConfig = configuration(&source.cluster(), &properties);
    let producer: BaseProducer = config.create().map_err(creation)?;
    let began = producer.init_transactions(TRANSACTION_CALL_MAX);
    began.map_err(|error| failed("replay: beginning transactions", &error))?;
    Ok(producer)
}

/// Reads letters up to a transaction's size and sends what is wanted; returns the positions behind them.
fn batch(
    consumer: &BaseConsumer,
    topic: &str,
    open: &mut HashSet<i32>,
    producer: Option<&BaseProducer>,
    (topics, wanted): (&TopicNames, &ReplayOptions),
    replayed: &mut ReplaySummary,
) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
    let mut ends: Vec<(TopicPartition, i64)> = Vec::new();
    let mut messages = 0;
    while messages < TRANSACTION_MESSAGES && !open.is_empty() {
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(RdKafkaError::PartitionEOF(number))) => {
                open.remove(&number);
                continue;
            }
            Some(Err(error)) => {
                let error = failed(format!("dead_letter: topic `{topic}`"), &error);
                if error.failure() == Failure::Retry {
                    tracing::warn!(%error, "replay");
                    continue;
                }
                return Err(error);
            }
            Some(Ok(message)) => message,
        };
        messages += 1;
        match target(&message, topics, wanted) {
            Target::Back(topic, partition) => {
                if let Some(producer) = producer {
                    send(producer, &message, &topic, partition)?;
                }
                replayed.put_back += 1;
            }
            Target::Incomplete => replayed.incomplete += 1,
            Target::Other => replayed.others += 1,
            Target::OtherStage => replayed.other_stages += 1,
        }
        let (number, next) = (message.partition(), message.offset() + 1);
        match ends.iter_mut().find(|((_, partition), _)| *partition == number) {
            Some((_, end)) => *end = next,
            None => ends.push(((topic.into(), number), next)),
        }
    }
    Ok(ends)
}

/// Where a letter goes.
enum Target {
    Back(String, i32),
    Incomplete,
    Other,
    OtherStage,
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

fn target(message: &BorrowedMessage<'_>, topics: &TopicNames, wanted: &ReplayOptions) -> Target {
    if wanted.stage.as_deref().is_some_and(|stage| header(message, "embedmill.stage") != Some(stage)) {
        return Target::OtherStage;
    }
    let place = header(message, "embedmill.position").and_then(|position| {
        let (topic, rest) = position.rsplit_once('[')?;
        Some((topic, rest.split_once(']')?.0.parse::<i32>().ok()?))
    });
    match place {
        Some((topic, _)) if !topics.contains(topic) => Target::Other,
        None => Target::Other,
        Some(_) if header(message, VALUE_LEFT_OUT).is_some() => Target::Incomplete,
        Some((topic, partition)) => Target::Back(topic.into(), partition),
    }
}

/// The letter as its record was; how often it was rejected goes along.
fn send(producer: &BaseProducer, message: &BorrowedMessage<'_>, topic: &str, partition: i32) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new();
    for found in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        if found.key == ATTEMPT || !found.key.starts_with("embedmill.") {
            headers = headers.insert(Header { key: found.key, value: found.value });
        }
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).headers(headers);
    if let Some(key) = message.key() {
        record = record.key(key);
    }
    // A delete came without a value and goes back without one.
    if let Some(value) = message.payload() {
        record = record.payload(value);
    }
    let sent = producer.send(record);
    producer.poll(Duration::ZERO);
    sent.map_err(|(error, _)| failed(format!("topic `{topic}`"), &error))
}

fn commit(consumer: &BaseConsumer, producer: &BaseProducer, ends: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
    let failed = |error: RdKafkaError| failed("replay: putting letters back", &error);
    producer.flush(TRANSACTION_CALL_MAX).map_err(failed)?;
    if !ends.is_empty() {
        let metadata = consumer.group_metadata().ok_or_else(|| KafkaError::Failed {
            what: "replay".into(),
            message: "the consumer has no group".into(),
            failure: Failure::Fatal,
        })?;
        producer.send_offsets_to_transaction(&list(ends), &metadata, TRANSACTION_CALL_MAX).map_err(failed)?;
    }
    producer.commit_transaction(TRANSACTION_CALL_MAX).map_err(failed)
}

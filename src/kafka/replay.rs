//! Dead letters back into the topics that they came from: value, key and headers as they were, to the partition they were
//! in. Messages and the positions of the dead letters are one transaction, so a replay that is killed and started again
//! puts nothing back twice.
//!
//! What is read is what was there at the start. A letter whose value was left out, or that is not of this pipeline's
//! topics, stays where it is and is counted.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::KafkaError;
use super::assignment::Key;
use super::client::{ASK_MAX, configuration, creation, failed};
use super::config::KafkaSourceConfig;
use super::group::list;
use super::letters::{ATTEMPT, VALUE_LEFT_OUT};
use super::publisher::TRANSACTION_MAX;
use super::topic_names::TopicNames;
use super::until_end::names;
use crate::failure::Failure;

/// Messages of one transaction.
const TRANSACTION_MESSAGES: usize = 500;

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    pub put_back: u64,
    /// Without their value.
    pub incomplete: u64,
    /// Of topics that the pipeline does not read.
    pub others: u64,
    /// Of stages that were not asked for.
    pub other_stages: u64,
}

/// Which letters are put back.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this stage only.
    pub stage: Option<String>,
    /// Nothing is put back; it is only counted.
    pub dry_run: bool,
}

/// Puts the letters in `topic` back into the topics that `source` reads.
pub fn replay(source: &KafkaSourceConfig, topic: &str, wanted: &Wanted) -> Result<Replayed, KafkaError> {
    let properties = source.connection();
    let group = format!("{}.replay", source.group);
    let ours = [
        ("group.id", group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
    ];
    let consumer: BaseConsumer = configuration(&source.brokers, &ours, &properties).create().map_err(creation)?;
    let mut open = assign(&consumer, topic)?;
    let producer = (!wanted.dry_run).then(|| producer(source, &group)).transpose()?;
    let topics = names(&source.topics)?;
    let mut replayed = Replayed::default();
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
    let failed = |error: ClientError| failed(format!("dead_letter: topic `{topic}`"), &error);
    let metadata = consumer.fetch_metadata(Some(topic), ASK_MAX).map_err(failed)?;
    let found = metadata.topics().first();
    if let Some(error) = found.and_then(|found| found.error()) {
        return Err(failed(ClientError::MetadataFetch(error.into())));
    }
    let numbers: HashSet<i32> =
        found.into_iter().flat_map(|found| found.partitions()).map(|partition| partition.id()).collect();
    let mut partitions = TopicPartitionList::new();
    for &number in &numbers {
        partitions.add_partition(topic, number);
    }
    let mut placed = consumer.committed_offsets(partitions, ASK_MAX).map_err(failed)?;
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
    let ours = [("enable.idempotence", "true"), ("transactional.id", id.as_str())];
    let config: ClientConfig = configuration(&source.brokers, &ours, &source.connection());
    let producer: BaseProducer = config.create().map_err(creation)?;
    let began = producer.init_transactions(TRANSACTION_MAX);
    began.map_err(|error| failed("replay: beginning transactions", &error))?;
    Ok(producer)
}

/// Reads letters up to a transaction's size and sends what is wanted; returns the positions behind them.
fn batch(
    consumer: &BaseConsumer,
    topic: &str,
    open: &mut HashSet<i32>,
    producer: Option<&BaseProducer>,
    (topics, wanted): (&TopicNames, &Wanted),
    replayed: &mut Replayed,
) -> Result<Vec<(Key, i64)>, KafkaError> {
    let mut ends: Vec<(Key, i64)> = Vec::new();
    let mut messages = 0;
    while messages < TRANSACTION_MESSAGES && !open.is_empty() {
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(ClientError::PartitionEOF(number))) => {
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

fn target(message: &BorrowedMessage<'_>, topics: &TopicNames, wanted: &Wanted) -> Target {
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

fn commit(consumer: &BaseConsumer, producer: &BaseProducer, ends: &[(Key, i64)]) -> Result<(), KafkaError> {
    let failed = |error: ClientError| failed("replay: putting letters back", &error);
    producer.flush(TRANSACTION_MAX).map_err(failed)?;
    if !ends.is_empty() {
        let metadata = consumer.group_metadata().ok_or_else(|| KafkaError::Failed {
            what: "replay".into(),
            message: "the consumer has no group".into(),
            failure: Failure::Fatal,
        })?;
        producer.send_offsets_to_transaction(&list(ends), &metadata, TRANSACTION_MAX).map_err(failed)?;
    }
    producer.commit_transaction(TRANSACTION_MAX).map_err(failed)
}

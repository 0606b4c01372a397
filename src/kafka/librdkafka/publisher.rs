//! Publishes rows to a topic and dead letters to another one, through one producer, in transactions or without.
//!
//! The producer is idempotent: what librdkafka sends again is neither duplicated nor reordered. Only delivery's thread uses
//! the publisher, which the sink, the dead letters and the transaction share.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::client::{QueryContext, configuration, creation_failed, operation_failed, transaction_failed};
use super::dead_letters;
use super::limits::{MESSAGE_OVERHEAD_BYTES, check_dead_letter_limits, check_row_limits};
use super::producer::{Acknowledgements, ProducerSettings};
use super::topic::{Admin, Topic, TopicLimits};
use crate::failure::Failure;
use crate::kafka::config::{KafkaSinkConfig, Layout};
use crate::kafka::headers;
use crate::kafka::messages::{CONTENT_TYPE, OversizedRow, RowsMessage, split_rows};
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::record::{Block, DeadLetter, Partition, Stage};
use crate::sink::{BlockRows, DeadLetterSink, Sink, SinkError, WindowRows, Written};
use crate::telemetry::traces::TRACEPARENT;

/// How long the acknowledgement of all sent messages may take before the window is tried again.
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// How long one poll waits for acknowledgements.
const POLL_STEP: Duration = Duration::from_millis(1);

/// The producer, and the topics that it sends to.
pub(super) struct Publisher {
    settings: ProducerSettings,
    pub(super) producer: BaseProducer<Acknowledgements>,
    topic: Topic,
    dead_letter_topic: Option<Topic>,
    schema_hash: String,
}

impl Publisher {
    /// Connects, and checks that the topics exist and could take what is sent to them.
    pub(super) fn open(
        sink: &KafkaSinkConfig,
        cluster: &Cluster,
        dead_letter_topic: Option<&str>,
        transactions: TransactionMode,
        schema_hash: String,
    ) -> Result<Publisher, KafkaError> {
        let admin = connect(cluster)?;
        let topic = Topic::describe(&admin, &sink.topic, "sink.kafka")?;
        let dead_letter_topic =
            dead_letter_topic.map(|name| Topic::describe(&admin, name, "dead_letter")).transpose()?;
        let limits = TopicLimits::query(&admin, &sink.topic);
        let dead_letter_limits = dead_letter_topic.as_ref().map(|topic| TopicLimits::query(&admin, &topic.name));
        check_row_limits(sink, limits)?;
        if let (Some(topic), Some(limits)) = (&dead_letter_topic, dead_letter_limits) {
            check_dead_letter_limits(topic, limits)?;
        }
        let settings = ProducerSettings {
            cluster: cluster.clone(),
            sink: sink.clone(),
            transactions,
            row_message_bytes_max: limits.message_bytes_max,
            dead_letter_bytes_max: dead_letter_limits.map_or(0, |limits| limits.message_bytes_max),
        };
        Publisher::to_topics(settings, topic, dead_letter_topic, schema_hash)
    }

    /// The same for dead letters alone, of a pipeline that writes no rows to Kafka.
    pub(super) fn open_for_dead_letters(
        name: &str,
        cluster: &Cluster,
        schema_hash: String,
    ) -> Result<Publisher, KafkaError> {
        let admin = connect(cluster)?;
        let topic = Topic::describe(&admin, name, "dead_letter")?;
        let limits = TopicLimits::query(&admin, name);
        check_dead_letter_limits(&topic, limits)?;
        let settings = ProducerSettings {
            cluster: cluster.clone(),
            sink: KafkaSinkConfig { topic: name.into(), ..KafkaSinkConfig::default() },
            transactions: TransactionMode::None,
            row_message_bytes_max: limits.message_bytes_max,
            dead_letter_bytes_max: limits.message_bytes_max,
        };
        Publisher::to_topics(settings, topic.clone(), Some(topic), schema_hash)
    }

    /// Connects to topics whose settings are known.
    pub(super) fn to_topics(
        settings: ProducerSettings,
        topic: Topic,
        dead_letter_topic: Option<Topic>,
        schema_hash: String,
    ) -> Result<Publisher, KafkaError> {
        let producer = settings.create()?;
        Ok(Publisher { settings, producer, topic, dead_letter_topic, schema_hash })
    }

    /// One line per topic, and one about transactions.
    pub(super) fn report(&self) -> Vec<String> {
        let line = |topic: &Topic, bytes_max: usize| {
            let Topic { name, partitions } = topic;
            format!("topic {name:?}: {partitions} partitions, messages of at most {bytes_max} bytes")
        };
        let mut lines = Vec::new();
        if self.dead_letter_topic.as_ref().is_none_or(|topic| topic.name != self.topic.name) {
            lines.push(line(&self.topic, self.settings.row_message_bytes_max));
        }
        lines.extend(
            self.dead_letter_topic
                .iter()
                .map(|topic| line(topic, self.settings.dead_letter_bytes_max) + " (dead letters)"),
        );
        if self.settings.is_transactional() {
            lines.push("transactions: available".into());
        }
        lines
    }

    /// Hands a message to the producer, and waits while its queue is full.
    fn send<K: ToBytes + ?Sized>(&self, record: BaseRecord<'_, K, [u8]>) -> Result<(), KafkaError> {
        let mut record = record;
        let deadline = Instant::now() + FLUSH_MAX;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((RdKafkaError::MessageProduction(Code::QueueFull), same)) if Instant::now() < deadline => {
                    record = same;
                    self.producer.poll(POLL_STEP);
                }
                Err((error, record)) => return Err(self.send_failed(record.topic, &error)),
            }
        }
    }

    /// In a transaction nearly any error may be overcome: the transaction is aborted, by a new producer if necessary.
    fn send_failed(&self, topic: &str, error: &RdKafkaError) -> KafkaError {
        let subject = format!("topic {topic:?}");
        match self.settings.is_transactional() {
            true => transaction_failed(&subject, error),
            false => operation_failed(subject, error),
        }
    }

    /// Waits until all messages are acknowledged. (rdkafka 0.39's own flush is not used for waiting: like its poll, it always
    /// lasts for all of a given timeout, in steps of 100 ms.)
    pub(super) fn flush(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + FLUSH_MAX;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(POLL_STEP);
        }
        if let Some((error, topic)) = self.producer.context().failed().take() {
            return Err(self.send_failed(&topic, &error));
        }
        let flushed = self.producer.flush(Duration::ZERO);
        flushed.map_err(|error| self.send_failed(&self.topic.name, &error))
    }

    fn write(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        match self.settings.sink.layout {
            Layout::Batch => self.write_batches(rows),
            Layout::Row => self.write_rows(rows),
        }
    }

    /// As many rows per message as fit. The rows of a source partition go to one partition, in order.
    fn write_batches(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        let mut by_partition: Vec<(&Partition, Vec<Range<usize>>)> = Vec::new();
        for BlockRows { block, output, .. } in rows.blocks().filter(|rows| rows.is_owned && !rows.output.is_empty()) {
            match by_partition.iter_mut().find(|(partition, _)| **partition == *block.partition) {
                Some((_, ranges)) => ranges.push(output),
                None => by_partition.push((&block.partition, vec![output])),
            }
        }
        let mut too_large = Vec::new();
        for (source_partition, ranges) in by_partition {
            let split = split_rows(rows.output, &ranges, self.value_bytes_max()).map_err(split_failed)?;
            let partition = source_partition.ordinal() as i32 % self.topic.partitions;
            for message in &split.messages {
                let record = BaseRecord::<str, [u8]>::to(&self.topic.name)
                    .partition(partition)
                    .payload(message.value.as_slice())
                    .headers(self.headers(message, rows.traceparent));
                self.send(record)?;
            }
            too_large.extend(split.too_large.iter().map(|oversized| self.reject(rows, oversized)));
        }
        Ok(too_large)
    }

    /// One message per row and per delete, in the order of their records. The key chooses the partition.
    fn write_rows(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        let mut too_large = Vec::new();
        let window_rows: Vec<usize> = rows.output.window_rows().collect();
        for BlockRows { block, first_row, output, .. } in rows.blocks().filter(|rows| rows.is_owned) {
            let mut deletes = block.deletes.iter().copied().peekable();
            for row in output {
                let block_row = window_rows[row] - first_row;
                while let Some(delete) = deletes.next_if(|&delete| delete < block.row_records[block_row]) {
                    self.write_delete(block, delete)?;
                }
                let one = row..row + 1;
                let key = block.ids.get(block_row);
                let value_bytes_max = self.value_bytes_max().saturating_sub(key.len());
                let split =
                    split_rows(rows.output, std::slice::from_ref(&one), value_bytes_max).map_err(split_failed)?;
                for message in &split.messages {
                    let record = BaseRecord::to(&self.topic.name)
                        .key(key)
                        .payload(message.value.as_slice())
                        .headers(self.headers(message, rows.traceparent));
                    self.send(record)?;
                }
                too_large.extend(split.too_large.iter().map(|oversized| self.reject(rows, oversized)));
            }
            deletes.try_for_each(|delete| self.write_delete(block, delete))?;
        }
        Ok(too_large)
    }

    fn write_delete(&self, block: &Block, record: usize) -> Result<(), KafkaError> {
        let key = block.body.envelope(record).and_then(|envelope| envelope.key.as_deref()).unwrap_or_default();
        self.send(BaseRecord::<[u8], [u8]>::to(&self.topic.name).key(key))
    }

    fn value_bytes_max(&self) -> usize {
        self.settings.row_message_bytes_max.saturating_sub(MESSAGE_OVERHEAD_BYTES).max(1)
    }

    fn headers(&self, message: &RowsMessage, traceparent: Option<&str>) -> OwnedHeaders {
        let rows = message.rows.to_string();
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: headers::CONTENT_TYPE, value: Some(CONTENT_TYPE) })
            .insert(Header { key: headers::ROWS, value: Some(rows.as_str()) })
            .insert(Header { key: headers::SCHEMA, value: Some(self.schema_hash.as_str()) });
        match traceparent {
            Some(context) => headers.insert(Header { key: TRACEPARENT, value: Some(context) }),
            None => headers,
        }
    }

    /// The dead letter of a record whose row the topic can never take.
    fn reject(&self, rows: &WindowRows<'_>, oversized: &OversizedRow) -> DeadLetter {
        let &OversizedRow { row, bytes } = oversized;
        let of_row = rows.blocks().find(|rows| rows.output.contains(&row));
        let BlockRows { block, first_row, .. } = of_row.expect("a row of the output is a row of a block");
        let window_row = rows.output.window_rows().nth(row).unwrap_or(first_row);
        let record = block.row_records[window_row - first_row];
        DeadLetter {
            position: block.position(record),
            stage: Stage::Publish,
            cause: format!(
                "the row as a message has {bytes} bytes; topic {:?} takes at most {} (max.message.bytes)",
                self.topic.name, self.settings.row_message_bytes_max
            ),
            raw: block.body.raw(record),
            envelope: block.body.envelope(record).cloned(),
        }
    }

    fn write_dead_letter(&self, dead_letter: &DeadLetter) -> Result<(), KafkaError> {
        let Some(topic) = &self.dead_letter_topic else {
            return Err(KafkaError::Failed {
                subject: "dead_letter".into(),
                message: "this publisher has no topic for dead letters".into(),
                failure: Failure::Fatal,
            });
        };
        self.send(dead_letters::message(dead_letter, topic, self.settings.dead_letter_bytes_max))
    }

    /// Replaces a producer that can no longer be used.
    pub(super) fn renew(&mut self) -> Result<(), KafkaError> {
        tracing::warn!("transactional producer fenced or failed; creating a new one");
        self.producer = self.settings.create()?;
        Ok(())
    }
}

fn connect(cluster: &Cluster) -> Result<Admin, KafkaError> {
    configuration(cluster, &[]).create_with_context(QueryContext::default()).map_err(creation_failed)
}

fn split_failed(error: impl std::fmt::Display) -> KafkaError {
    KafkaError::Failed {
        subject: "splitting rows into messages".into(),
        message: error.to_string(),
        failure: Failure::Fatal,
    }
}

/// The publisher, shared by the sink, the dead letters and the transaction on delivery's thread.
#[derive(Clone)]
pub(super) struct SharedPublisher(Arc<Mutex<Publisher>>);

impl SharedPublisher {
    pub(super) fn new(publisher: Publisher) -> Self {
        SharedPublisher(Arc::new(Mutex::new(publisher)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Publisher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for SharedPublisher {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        Ok(self.lock().write(rows)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.lock().flush()?)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        let publisher = self.lock();
        if !publisher.settings.is_transactional() {
            publisher.flush()?;
        }
        Ok(Vec::new())
    }
}

impl DeadLetterSink for SharedPublisher {
    fn write(&mut self, dead_letter: &DeadLetter) -> Result<(), SinkError> {
        Ok(self.lock().write_dead_letter(dead_letter)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let publisher = self.lock();
        // The commit of a transaction flushes.
        if publisher.settings.is_transactional() { Ok(()) } else { Ok(publisher.flush()?) }
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }
}

//! Messages to a topic and to the dead letters' topic, through one producer, in transactions or not.
//!
//! The producer is idempotent: what librdkafka sends again is neither doubled nor put out of order. Delivery's thread is
//! the only user; the sink, the dead letters and the transaction are three views of the one publisher.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::client::{QueryClient, configuration, creation, failed, transaction};
use super::dead_letters;
use super::limits::{MESSAGE_OVERHEAD_BYTES, check_limits};
use super::producer::{Acks, Settings};
use super::topic::{Admin, Limits, Topic};
use crate::failure::Failure;
use crate::kafka::config::{KafkaSinkConfig, Layout};
use crate::kafka::messages::{CONTENT_TYPE, Message, cut};
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::record::{Block, DeadLetter, Partition, Stage};
use crate::sink::{BlockRows, DeadLetterSink, Sink, SinkError, WindowRows, Written};
use crate::telemetry::traces::TRACEPARENT;

/// How long everything produced may take to be acknowledged before a window is tried again.
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// Acknowledgements are waited for in such steps.
const POLL_STEP: Duration = Duration::from_millis(1);
/// The producer and what it sends to.
pub struct Publisher {
    settings: Settings,
    pub(super) producer: BaseProducer<Acks>,
    topic: Topic,
    dead_letter_topic: Option<Topic>,
    schema_hash: String,
}

impl Publisher {
    /// Connects, and refuses what could not be sent to.
    pub fn open(
        sink: &KafkaSinkConfig,
        cluster: &Cluster,
        dead_letter_topic: Option<&str>,
        transactions: TransactionMode,
        schema_hash: String,
    ) -> Result<Publisher, KafkaError> {
        let asking = configuration(cluster, &[]);
        let admin: Admin = asking.create_with_context(QueryClient::default()).map_err(creation)?;
        let topic = Topic::describe(&admin, &sink.topic, "sink.kafka")?;
        let dead_letter_topic =
            dead_letter_topic.map(|name| Topic::describe(&admin, name, "dead_letter")).transpose()?;
        let rows = Limits::of(&admin, &sink.topic);
        let letters = dead_letter_topic.as_ref().map(|topic| Limits::of(&admin, &topic.name));
        check_limits(sink, rows, dead_letter_topic.as_ref().zip(letters))?;
        let settings = Settings {
            cluster: cluster.clone(),
            sink: sink.clone(),
            transactions,
            rows_bytes_max: rows.message_bytes_max,
            letter_bytes_max: letters.map_or(0, |letters| letters.message_bytes_max),
        };
        Publisher::to(settings, topic, dead_letter_topic, schema_hash)
    }

    /// To topics that are known already.
    pub(super) fn to(
        settings: Settings,
        topic: Topic,
        dead_letter_topic: Option<Topic>,
        schema_hash: String,
    ) -> Result<Publisher, KafkaError> {
        let producer = settings.producer()?;
        Ok(Publisher { settings, producer, topic, dead_letter_topic, schema_hash })
    }

    /// A line a topic.
    pub fn report(&self) -> Vec<String> {
        let line = |topic: &Topic, bytes_max: usize| {
            format!("topic {}: {} partitions, messages of at most {bytes_max} bytes", topic.name, topic.partitions)
        };
        let mut lines = vec![line(&self.topic, self.settings.rows_bytes_max)];
        lines.extend(
            self.dead_letter_topic.iter().map(|topic| line(topic, self.settings.letter_bytes_max) + " (dead letters)"),
        );
        if self.settings.is_transactional() {
            lines.push("transactions can be begun".into());
        }
        lines
    }

    /// Hands a message to the producer; waits where its queue is full.
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
                Err((error, record)) => return Err(self.unsent(record.topic, &error)),
            }
        }
    }

    /// In a transaction any error may pass: it is aborted, by a new producer if need be.
    fn unsent(&self, topic: &str, error: &RdKafkaError) -> KafkaError {
        let what = format!("topic `{topic}`");
        if self.settings.is_transactional() { transaction(&what, error) } else { failed(what, error) }
    }

    /// Waits until all is acknowledged. (rdkafka 0.39's own flush, as its poll, lasts for the whole of a time that is given
    /// to it, in steps of 100 ms.)
    pub(super) fn flush(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + FLUSH_MAX;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(POLL_STEP);
        }
        if let Some((error, topic)) = self.producer.context().failed().take() {
            return Err(self.unsent(&topic, &error));
        }
        let flushed = self.producer.flush(Duration::ZERO);
        flushed.map_err(|error| self.unsent(&self.topic.name, &error))
    }

    fn write(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        match self.settings.sink.layout {
            Layout::Batch => self.write_batches(rows),
            Layout::Row => self.write_rows(rows),
        }
    }

    /// A source partition's rows go to one partition, in their order.
    fn write_batches(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        let mut parts: Vec<(&Partition, Vec<Range<usize>>)> = Vec::new();
        for BlockRows { block, output, .. } in rows.blocks().filter(|rows| rows.is_owned && !rows.output.is_empty()) {
            match parts.iter_mut().find(|(partition, _)| **partition == *block.partition) {
                Some((_, ranges)) => ranges.push(output),
                None => parts.push((&block.partition, vec![output])),
            }
        }
        let mut too_large = Vec::new();
        for (partition, ranges) in parts {
            let cut = cut(rows.output, &ranges, self.value_bytes_max()).map_err(defect)?;
            let to = partition.ordinal() as i32 % self.topic.partitions;
            for message in &cut.messages {
                let record = BaseRecord::<str, [u8]>::to(&self.topic.name)
                    .partition(to)
                    .payload(message.value.as_slice())
                    .headers(self.headers(message, rows.traceparent));
                self.send(record)?;
            }
            too_large.extend(cut.too_large.iter().map(|&(row, bytes)| self.too_large(rows, row, bytes)));
        }
        Ok(too_large)
    }

    /// A message a row and a delete, in the order of their records; the key chooses the partition.
    fn write_rows(&self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, KafkaError> {
        let mut too_large = Vec::new();
        let window_rows: Vec<usize> = rows.output.window_rows().collect();
        for BlockRows { block, first_row, output, .. } in rows.blocks().filter(|rows| rows.is_owned) {
            let mut deletes = block.deletes.iter().copied().peekable();
            for row in output {
                let block_row = window_rows[row] - first_row;
                while let Some(delete) = deletes.next_if(|&delete| delete < block.row_records[block_row]) {
                    self.delete(block, delete)?;
                }
                let one = row..row + 1;
                let key = block.ids.get(block_row);
                let value_bytes_max = self.value_bytes_max().saturating_sub(key.len());
                let cut = cut(rows.output, std::slice::from_ref(&one), value_bytes_max).map_err(defect)?;
                for message in &cut.messages {
                    let record = BaseRecord::to(&self.topic.name)
                        .key(key)
                        .payload(message.value.as_slice())
                        .headers(self.headers(message, rows.traceparent));
                    self.send(record)?;
                }
                too_large.extend(cut.too_large.iter().map(|&(row, bytes)| self.too_large(rows, row, bytes)));
            }
            deletes.try_for_each(|delete| self.delete(block, delete))?;
        }
        Ok(too_large)
    }

    fn delete(&self, block: &Block, record: usize) -> Result<(), KafkaError> {
        let key = block.body.envelope(record).and_then(|envelope| envelope.key.as_deref()).unwrap_or_default();
        self.send(BaseRecord::<[u8], [u8]>::to(&self.topic.name).key(key))
    }

    fn value_bytes_max(&self) -> usize {
        self.settings.rows_bytes_max.saturating_sub(MESSAGE_OVERHEAD_BYTES).max(1)
    }

    fn headers(&self, message: &Message, traceparent: Option<&str>) -> OwnedHeaders {
        let rows = message.rows.to_string();
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "content-type", value: Some(CONTENT_TYPE) })
            .insert(Header { key: "embedmill.rows", value: Some(rows.as_str()) })
            .insert(Header { key: "embedmill.schema", value: Some(self.schema_hash.as_str()) });
        match traceparent {
            Some(context) => headers.insert(Header { key: TRACEPARENT, value: Some(context) }),
            None => headers,
        }
    }

    fn too_large(&self, rows: &WindowRows<'_>, row: usize, bytes: usize) -> DeadLetter {
        let of_row = rows.blocks().find(|rows| rows.output.contains(&row));
        let BlockRows { block, first_row, .. } = of_row.expect("a row of the output is a row of a block");
        let window_row = rows.output.window_rows().nth(row).unwrap_or(first_row);
        let record = block.row_records[window_row - first_row];
        DeadLetter {
            position: block.position(record),
            stage: Stage::Publish,
            cause: format!(
                "the row takes {bytes} bytes as a message; topic `{}` takes {} at most (`max.message.bytes`)",
                self.topic.name, self.settings.rows_bytes_max
            ),
            raw: block.body.raw(record),
            envelope: block.body.envelope(record).cloned(),
        }
    }

    fn write_letter(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let Some(topic) = &self.dead_letter_topic else {
            return Err(KafkaError::Failed {
                what: "dead letters".into(),
                message: "there is no topic for them".into(),
                failure: Failure::Fatal,
            });
        };
        self.send(dead_letters::message(letter, topic, self.settings.letter_bytes_max))
    }

    /// A new producer in place of one that cannot go on.
    pub(super) fn renew(&mut self) -> Result<(), KafkaError> {
        tracing::warn!("the transactional producer was fenced or failed; beginning again with a new one");
        self.producer = self.settings.producer()?;
        Ok(())
    }
}

fn defect(error: impl std::fmt::Display) -> KafkaError {
    KafkaError::Failed {
        what: "cutting rows into messages".into(),
        message: error.to_string(),
        failure: Failure::Fatal,
    }
}

/// The publisher, shared by its views on delivery's thread.
#[derive(Clone)]
pub struct SharedPublisher(Arc<Mutex<Publisher>>);

impl SharedPublisher {
    pub fn new(publisher: Publisher) -> Self {
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
    fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError> {
        Ok(self.lock().write_letter(letter)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let publisher = self.lock();
        // A transaction's commit flushes.
        if publisher.settings.is_transactional() { Ok(()) } else { Ok(publisher.flush()?) }
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }
}

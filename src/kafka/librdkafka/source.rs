//! Reads records from topics as a member of a consumer group.
//!
//! One thread polls at all times: while it waits for the pipeline to have room, the partitions are paused and polling
//! continues, so that the group keeps this member. Rebalances are handled inside those polls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::client::operation_failed;
use super::group::{GroupContext, LEAVE_MAX};
use super::until_end::{UntilEnd, topic_names};
use crate::delivery::assignment::{Assignment, TopicPartition};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::config::ValueFormat;
use crate::record::{Body, Envelope, Partition, Payload, Record};
use crate::source::{Closed, RecordSender, Source, SourceError};

/// How long a poll waits for the first message.
const POLL: Duration = Duration::from_millis(100);
/// How long the source waits for room in the pipeline before it pauses its partitions and polls in between.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// The most records and bytes that are polled and sent to the pipeline at once, as in the file source.
const RUN_RECORDS_MAX: usize = 512;
const RUN_BYTES_MAX: usize = 512 << 10;

/// The consumer as a source.
pub(super) struct KafkaSource {
    pub consumer: Arc<BaseConsumer<GroupContext>>,
    pub topics: Vec<String>,
    pub format: ValueFormat,
    pub until_end: bool,
}

/// Consecutive records of one partition, sent to the pipeline together.
struct PartitionRun {
    partition: Arc<Partition>,
    records: Vec<Record>,
}

impl PartitionRun {
    fn next_offset(&self) -> i64 {
        self.records.last().map_or(0, |record| record.offset as i64 + 1)
    }
}

impl Source for KafkaSource {
    fn run(self: Box<Self>, sender: &mut RecordSender) -> Result<(), SourceError> {
        // The end offsets are queried before the consumer joins the group, which may take long.
        let until_end = self.until_end.then(|| UntilEnd::begin(&self.consumer, &self.topics)).transpose()?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let subscribed = self.consumer.subscribe(&topics);
        subscribed.map_err(|error| operation_failed(format!("source.kafka: topics {}", topics.join(", ")), &error))?;
        self.consumer.context().eof_tracker().assigned();
        let has_patterns = topic_names(&self.topics)?.has_patterns();
        PollLoop { consumer: &self.consumer, format: self.format, until_end, has_patterns }.run(sender)
    }

    fn leave_max(&self) -> Duration {
        LEAVE_MAX
    }
}

/// A running source.
struct PollLoop<'a> {
    consumer: &'a BaseConsumer<GroupContext>,
    format: ValueFormat,
    until_end: Option<UntilEnd>,
    /// Whether topics that do not exist yet may match later.
    has_patterns: bool,
}

impl PollLoop<'_> {
    fn run(mut self, sender: &mut RecordSender) -> Result<(), SourceError> {
        // Records that were polled while an earlier run waited for room.
        let mut polled_early = VecDeque::new();
        let ended = loop {
            let at_end =
                polled_early.is_empty() && self.until_end.as_mut().is_some_and(|end| end.is_reached(self.consumer));
            if sender.is_closed() || at_end {
                break Ok(());
            }
            let runs = match self.poll_runs(&mut polled_early) {
                Ok(runs) => runs,
                Err(error) => break Err(error),
            };
            if runs.into_iter().try_for_each(|run| self.send(run, sender, &mut polled_early)).is_err() {
                break Ok(());
            }
        };
        sender.end();
        // The consumer stays in the group until everything that was sent is settled, so that the offsets can be committed.
        self.pause();
        while ended.is_ok() && !sender.is_over() && !self.assignment().all_settled() {
            if let Some(Err(error)) = self.consumer.poll(POLL) {
                self.handle_error(error)?;
            }
        }
        ended.map_err(SourceError::from)
    }

    fn assignment(&self) -> &Assignment {
        &self.consumer.context().assignment
    }

    /// Polls the messages that are available now, up to the limits; waits a little if there are none.
    fn poll_runs(
        &self,
        polled_early: &mut VecDeque<(Arc<Partition>, Record)>,
    ) -> Result<Vec<PartitionRun>, KafkaError> {
        let mut runs: Vec<PartitionRun> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut wait = POLL;
        if let Some(error) = self.consumer.context().take_fatal_error() {
            return Err(error);
        }
        while records < RUN_RECORDS_MAX && bytes < RUN_BYTES_MAX {
            let (partition, record) = match polled_early.pop_front() {
                Some(record) => record,
                None => match self.poll(wait)? {
                    Polled::Record(partition, record) => (partition, record),
                    Polled::Event => continue,
                    Polled::Nothing => break,
                },
            };
            wait = Duration::ZERO;
            records += 1;
            bytes += record.bytes();
            // An Arrow message holds many rows, so it is a run by itself.
            let takes_more =
                |run: &&mut PartitionRun| self.format != ValueFormat::Arrow && Arc::ptr_eq(&run.partition, &partition);
            match runs.iter_mut().find(takes_more) {
                Some(run) => run.records.push(record),
                None => runs.push(PartitionRun { partition, records: vec![record] }),
            }
        }
        Ok(runs)
    }

    /// Sends a run to the pipeline. Its records are dropped if their partition is revoked before there is room for them.
    /// Returns `Err(Closed)` once the pipeline takes no more.
    fn send(
        &self,
        run: PartitionRun,
        sender: &mut RecordSender,
        polled_early: &mut VecDeque<(Arc<Partition>, Record)>,
    ) -> Result<(), Closed> {
        if !self.assignment().owns(&run.partition) {
            return Ok(());
        }
        let next = run.next_offset();
        let PartitionRun { partition, mut records } = run;
        let body = match records.pop() {
            Some(batch) if matches!(batch.payload, Payload::Arrow(_)) => Body::Batch(Box::new(batch)),
            last => {
                records.extend(last);
                Body::Each(records)
            }
        };
        let mut paused = false;
        let mut maintain = || {
            self.pause();
            paused = true;
            match self.poll(Duration::ZERO) {
                Ok(Polled::Record(partition, record)) => polled_early.push_back((partition, record)),
                Ok(Polled::Event | Polled::Nothing) => {}
                // If the error persists, the next poll outside of this closure returns it.
                Err(error) => tracing::warn!(%error, "kafka consumer error"),
            }
            self.assignment().owns(&partition)
        };
        let sent = sender.send_maintained(&partition, body, 0, MAINTAIN_EVERY, &mut maintain);
        if paused {
            self.resume();
        }
        if sent? {
            self.assignment().hand_out(&partition, next);
        }
        Ok(())
    }

    fn poll(&self, wait: Duration) -> Result<Polled, KafkaError> {
        match self.consumer.poll(wait) {
            None => {
                self.refresh_eof_events();
                Ok(Polled::Nothing)
            }
            Some(Ok(message)) => match self.assignment().partition(message.topic(), message.partition()) {
                Some(_) if self.is_past_end(&message) => {
                    self.finish_partition(&message);
                    Ok(Polled::Event)
                }
                Some(partition) => Ok(Polled::Record(partition, self.record(&message))),
                None => Ok(Polled::Event),
            },
            Some(Err(RdKafkaError::PartitionEOF(number))) => {
                self.consumer.context().eof_tracker().partition_eof(number);
                Ok(Polled::Event)
            }
            Some(Err(error)) => self.handle_error(error).map(|()| Polled::Event),
        }
    }

    fn is_past_end(&self, message: &BorrowedMessage<'_>) -> bool {
        let until_end = self.until_end.as_ref();
        until_end.is_some_and(|end| end.is_past_end(message.topic(), message.partition(), message.offset()))
    }

    /// Stops reading the message's partition, which is read to its end. The message is dropped: its offset is not committed,
    /// so the next run reads it.
    fn finish_partition(&self, message: &BorrowedMessage<'_>) {
        let partition: TopicPartition = (message.topic().into(), message.partition());
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.0, partition.1);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::warn!(%error, "pausing a partition failed");
        }
        self.consumer.context().eof_tracker().finish(partition);
    }

    /// After a revocation the end events seen so far are void. A pause and a resume make the partitions report their ends
    /// again.
    fn refresh_eof_events(&self) {
        if self.until_end.is_some() && self.consumer.context().eof_tracker().is_stale() {
            self.pause();
            self.resume();
        }
    }

    /// Logs a transient error, from which librdkafka recovers by itself; returns any other.
    fn handle_error(&self, error: RdKafkaError) -> Result<(), KafkaError> {
        let code = error.rdkafka_error_code();
        let may_be_created = self.has_patterns && code == Some(Code::UnknownTopicOrPartition);
        if matches!(error, RdKafkaError::PartitionEOF(_)) || code == Some(Code::PollExceeded) || may_be_created {
            return Ok(());
        }
        // The error only says that it is fatal; the client knows which error it was.
        let fatal = self.consumer.client().fatal_error();
        let error = fatal.map_or(error, |(code, _)| RdKafkaError::MessageConsumptionFatal(code));
        let error = operation_failed("source.kafka", &error);
        match error.failure() {
            Failure::Retry => {
                tracing::warn!(%error, "kafka consumer error");
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn pause(&self) {
        if let Ok(assigned) = self.consumer.assignment()
            && let Err(error) = self.consumer.pause(&assigned)
        {
            tracing::warn!(%error, "pausing partitions failed");
        }
    }

    fn resume(&self) {
        let Ok(assigned) = self.consumer.assignment() else { return };
        let mut eof_tracker = self.consumer.context().eof_tracker();
        eof_tracker.resumed();
        let mut resumed = TopicPartitionList::new();
        for element in assigned.elements() {
            if !eof_tracker.is_finished(&(element.topic().into(), element.partition())) {
                resumed.add_partition(element.topic(), element.partition());
            }
        }
        drop(eof_tracker);
        if let Err(error) = self.consumer.resume(&resumed) {
            tracing::warn!(%error, "resuming partitions failed");
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let payload = match (message.payload(), self.format) {
            (None, _) => Payload::Delete,
            (Some(value), ValueFormat::Json) => Payload::Json(copied(value)),
            (Some(value), ValueFormat::Text) => Payload::Text(copied(value)),
            (Some(value), ValueFormat::Arrow) => Payload::Arrow(copied(value)),
        };
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let envelope = Envelope {
            key: message.key().map(copied),
            headers: headers.map(|header| (header.key.to_string(), header.value.map(copied))).collect(),
            timestamp_ms: message.timestamp().to_millis(),
        };
        Record { offset: message.offset() as u64, payload, envelope: Some(Box::new(envelope)) }
    }
}

/// The result of a poll.
enum Polled {
    Record(Arc<Partition>, Record),
    /// Something other than a record to read: the end of a partition, a transient error, or a message of no interest.
    Event,
    /// The poll timed out.
    Nothing,
}

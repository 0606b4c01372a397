//! Records of topics, in a consumer group. One thread polls, whatever the pipeline does: while it waits for room, the
//! partitions are paused and polling goes on, so that the group keeps its member. Rebalances are served inside that poll.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::client::failed;
use super::group::{Group, LEAVE_MAX};
use super::until_end::{UntilEnd, names};
use crate::delivery::assignment::{Assignment, TopicPartition};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::config::ValueFormat;
use crate::record::{Body, Envelope, Partition, Payload, Record};
use crate::source::{Closed, RecordSender, Source, SourceError};

/// How long a poll may wait for the first message.
const POLL: Duration = Duration::from_millis(100);
/// How long the pipeline may let the source wait before it pauses and polls in between.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// Most records and bytes handed on at once; see the file source.
const RUN_RECORDS_MAX: usize = 512;
const RUN_BYTES_MAX: usize = 512 << 10;

/// The consumer as a source.
pub struct KafkaSource {
    pub consumer: Arc<BaseConsumer<Group>>,
    pub topics: Vec<String>,
    pub format: ValueFormat,
    pub until_end: bool,
}

/// Records of one partition that go on together.
struct Run {
    partition: Arc<Partition>,
    records: Vec<Record>,
}

impl Run {
    fn next(&self) -> i64 {
        self.records.last().map_or(0, |record| record.offset as i64 + 1)
    }
}

impl Source for KafkaSource {
    fn run(self: Box<Self>, outlet: &mut RecordSender) -> Result<(), SourceError> {
        // Before the group is asked for anything, which may take long: these are the ends at the start.
        let until_end = self.until_end.then(|| UntilEnd::begin(&self.consumer, &self.topics)).transpose()?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let subscribed = self.consumer.subscribe(&topics);
        subscribed.map_err(|error| failed(format!("source.kafka: topics {}", topics.join(", ")), &error))?;
        self.consumer.context().ends().assigned();
        let may_come = names(&self.topics)?.has_patterns();
        Reading { consumer: &self.consumer, format: self.format, until_end, may_come }.run(outlet)
    }

    fn leave_max(&self) -> Duration {
        LEAVE_MAX
    }
}

/// A source at work.
struct Reading<'a> {
    consumer: &'a BaseConsumer<Group>,
    format: ValueFormat,
    until_end: Option<UntilEnd>,
    /// Whether topics may come that are not there yet.
    may_come: bool,
}

impl Reading<'_> {
    fn run(mut self, outlet: &mut RecordSender) -> Result<(), SourceError> {
        let mut early = VecDeque::new();
        let ended = loop {
            let at_end = early.is_empty() && self.until_end.as_mut().is_some_and(|end| end.is_reached(self.consumer));
            if outlet.is_closed() || at_end {
                break Ok(());
            }
            let runs = match self.gather(&mut early) {
                Ok(runs) => runs,
                Err(error) => break Err(error),
            };
            if runs.into_iter().try_for_each(|run| self.hand_on(run, outlet, &mut early)).is_err() {
                break Ok(());
            }
        };
        outlet.end();
        // The group keeps its member until what was handed on is settled, so that its positions can be committed.
        self.pause();
        while ended.is_ok() && !outlet.is_over() && !self.assignment().all_settled() {
            if let Some(Err(error)) = self.consumer.poll(POLL) {
                self.handle_error(error)?;
            }
        }
        ended.map_err(SourceError::from)
    }

    fn assignment(&self) -> &Assignment {
        &self.consumer.context().assignment
    }

    /// What is there now, up to the limits of a run; waits a little if there is nothing.
    fn gather(&self, early: &mut VecDeque<(Arc<Partition>, Record)>) -> Result<Vec<Run>, KafkaError> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut wait = POLL;
        if let Some(error) = self.consumer.context().ends().take_failed() {
            return Err(error);
        }
        while records < RUN_RECORDS_MAX && bytes < RUN_BYTES_MAX {
            let (partition, record) = match early.pop_front() {
                Some(early) => early,
                None => match self.poll(wait)? {
                    Polled::Record(partition, record) => (partition, record),
                    Polled::Event => continue,
                    Polled::Nothing => break,
                },
            };
            wait = Duration::ZERO;
            records += 1;
            bytes += record.bytes();
            // A message of many rows is a run by itself.
            let together =
                |run: &&mut Run| self.format != ValueFormat::Arrow && Arc::ptr_eq(&run.partition, &partition);
            match runs.iter_mut().find(together) {
                Some(run) => run.records.push(record),
                None => runs.push(Run { partition, records: vec![record] }),
            }
        }
        Ok(runs)
    }

    /// `Err(Closed)` once the pipeline takes no more. Records of a partition that is taken away meanwhile are let go.
    fn hand_on(
        &self,
        run: Run,
        outlet: &mut RecordSender,
        early: &mut VecDeque<(Arc<Partition>, Record)>,
    ) -> Result<(), Closed> {
        if !self.assignment().owns(&run.partition) {
            return Ok(());
        }
        let next = run.next();
        let Run { partition, mut records } = run;
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
                Ok(Polled::Record(partition, record)) => early.push_back((partition, record)),
                Ok(Polled::Event | Polled::Nothing) => {}
                // The next poll outside meets it again if it lasts.
                Err(error) => tracing::warn!(%error, "kafka consumer"),
            }
            self.assignment().owns(&partition)
        };
        let sent = outlet.send_maintained(&partition, body, 0, MAINTAIN_EVERY, &mut maintain);
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
                self.ask_for_ends_again();
                Ok(Polled::Nothing)
            }
            Some(Ok(message)) => match self.assignment().partition(message.topic(), message.partition()) {
                Some(_) if self.is_behind(&message) => {
                    self.pass(&message);
                    Ok(Polled::Event)
                }
                Some(partition) => Ok(Polled::Record(partition, self.record(&message))),
                None => Ok(Polled::Event),
            },
            Some(Err(RdKafkaError::PartitionEOF(number))) => {
                self.consumer.context().ends().event(number);
                Ok(Polled::Event)
            }
            Some(Err(error)) => self.handle_error(error).map(|()| Polled::Event),
        }
    }

    fn is_behind(&self, message: &BorrowedMessage<'_>) -> bool {
        let until_end = self.until_end.as_ref();
        until_end.is_some_and(|end| end.is_behind(message.topic(), message.partition(), message.offset()))
    }

    /// Reads no more of the message's partition; the message is whose turn it is next time.
    fn pass(&self, message: &BorrowedMessage<'_>) {
        let key: TopicPartition = (message.topic().into(), message.partition());
        let mut list = TopicPartitionList::new();
        list.add_partition(&key.0, key.1);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::warn!(%error, "a partition could not be paused");
        }
        self.consumer.context().ends().passed(key);
    }

    /// After partitions went, what was told of ends is void; after a pause it is told again.
    fn ask_for_ends_again(&self) {
        if self.until_end.is_some() && self.consumer.context().ends().is_unclear() {
            self.pause();
            self.resume();
        }
    }

    /// An error that passes is logged; librdkafka goes on by itself.
    fn handle_error(&self, error: RdKafkaError) -> Result<(), KafkaError> {
        let code = error.rdkafka_error_code();
        let is_to_come = self.may_come && code == Some(Code::UnknownTopicOrPartition);
        if matches!(error, RdKafkaError::PartitionEOF(_)) || code == Some(Code::PollExceeded) || is_to_come {
            return Ok(());
        }
        // What a fatal error is, only the client says.
        let fatal = self.consumer.client().fatal_error();
        let error = fatal.map_or(error, |(code, _)| RdKafkaError::MessageConsumptionFatal(code));
        let error = failed("source.kafka", &error);
        match error.failure() {
            Failure::Retry => {
                tracing::warn!(%error, "kafka consumer");
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn pause(&self) {
        if let Ok(assigned) = self.consumer.assignment()
            && let Err(error) = self.consumer.pause(&assigned)
        {
            tracing::warn!(%error, "partitions could not be paused");
        }
    }

    fn resume(&self) {
        let Ok(assigned) = self.consumer.assignment() else { return };
        let mut ends = self.consumer.context().ends();
        ends.resumed();
        let mut resumed = TopicPartitionList::new();
        for element in assigned.elements() {
            if !ends.is_passed(&(element.topic().into(), element.partition())) {
                resumed.add_partition(element.topic(), element.partition());
            }
        }
        drop(ends);
        if let Err(error) = self.consumer.resume(&resumed) {
            tracing::warn!(%error, "partitions could not be resumed");
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let payload = match (message.payload(), self.format) {
            (None, _) => Payload::Delete,
            (Some(value), ValueFormat::Json) => Payload::Json(owned(value)),
            (Some(value), ValueFormat::Text) => Payload::Text(owned(value)),
            (Some(value), ValueFormat::Arrow) => Payload::Arrow(owned(value)),
        };
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let envelope = Envelope {
            key: message.key().map(owned),
            headers: headers.map(|header| (header.key.to_string(), header.value.map(owned))).collect(),
            timestamp_ms: message.timestamp().to_millis(),
        };
        Record { offset: message.offset() as u64, payload, envelope: Some(Box::new(envelope)) }
    }
}

enum Polled {
    Record(Arc<Partition>, Record),
    /// Something other than a record happened.
    Event,
    Nothing,
}

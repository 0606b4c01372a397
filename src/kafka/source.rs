//! Records of topics, in a consumer group. One thread polls, whatever the pipeline does: while it waits for room, the
//! partitions are paused and polling goes on, so that the group keeps its member. Rebalances are served inside that poll.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::KafkaError;
use super::assignment::{Assignment, Key};
use super::client::{ASK_MAX, Refusal, ask, configuration, creation, failed};
use super::config::{KafkaSourceConfig, ValueFormat};
use super::statistics;
use crate::delivery::Commits;
use crate::failure::Failure;
use crate::kafka::assignment::Held;
use crate::record::{Body, Envelope, Partition, Payload, Record};
use crate::source::{Closed, Outlet, Source, SourceError};
use crate::telemetry::events;

/// How long a poll may wait for the first message.
const POLL: Duration = Duration::from_millis(100);
/// How long the pipeline may let the source wait before it pauses and polls in between.
const TEND: Duration = Duration::from_secs(1);
/// Most records and bytes handed on at once; see the file source.
const RUN_RECORDS_MAX: usize = 512;
const RUN_BYTES_MAX: usize = 512 << 10;

/// Serves rebalances, inside poll.
pub struct Group {
    pub assignment: Arc<Assignment>,
    refusal: Refusal,
    drain: Duration,
    ends: Mutex<Ends>,
}

/// What `until_end` asks.
struct Ends {
    /// Partitions of ours that were read to their end.
    reached: HashSet<Key>,
    /// When partitions last came or went.
    rebalanced: Instant,
}

impl Group {
    fn ends(&self) -> std::sync::MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Group {
    fn error(&self, error: ClientError, reason: &str) {
        self.refusal.note(&error, reason);
        tracing::warn!(%error, reason, "kafka consumer");
    }

    fn stats(&self, statistics: Statistics) {
        statistics::observe(&statistics, &self.assignment);
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                let keys = keys(partitions);
                let lost = consumer.assignment_lost();
                tracing::info!(partitions = ?keys, lost, "partitions are taken away");
                // What is lost is somebody else's already.
                let drain = if consumer.assignment_lost() { Duration::ZERO } else { self.drain };
                self.assignment.revoke(&keys, drain, |left| {
                    if !left.is_empty()
                        && !consumer.assignment_lost()
                        && let Err(error) = consumer.commit(&list(left), CommitMode::Sync)
                    {
                        tracing::warn!(%error, "positions could not be committed; their records are read again");
                    }
                });
                let gone = keys.iter().map(|(topic, partition)| (&**topic, *partition));
                events::partitions_revoked(gone, lost, self.assignment.keys().len());
                let mut ends = self.ends();
                ends.reached.retain(|key| !keys.contains(key));
                ends.rebalanced = Instant::now();
            }
            Rebalance::Assign(partitions) => {
                let keys = keys(partitions);
                tracing::info!(partitions = ?keys, "partitions are ours");
                self.assignment.assign(keys);
                events::partitions_assigned(self.assignment.keys().len());
                self.ends().rebalanced = Instant::now();
            }
            Rebalance::Error(error) => {
                events::rebalance_failed();
                tracing::warn!(%error, "rebalance");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        events::committed(result.is_ok());
        if let Err(error) = result {
            tracing::warn!(%error, "positions could not be committed; the next commit has them too");
        }
    }
}

fn keys(partitions: &TopicPartitionList) -> Vec<Key> {
    partitions.elements().iter().map(|element| (element.topic().into(), element.partition())).collect()
}

pub fn list(ends: &[(Key, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(ends.len());
    for ((topic, partition), next) in ends {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        debug_assert!(added.is_ok(), "an offset that was read is a valid one");
    }
    list
}

/// The consumer, before it is asked for anything.
pub fn open(config: &KafkaSourceConfig) -> Result<Arc<BaseConsumer<Group>>, KafkaError> {
    let eof = config.until_end.to_string();
    let ours = [
        ("group.id", config.group.as_str()),
        ("auto.offset.reset", config.start.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", eof.as_str()),
        ("isolation.level", "read_committed"),
        ("statistics.interval.ms", statistics::interval_ms()),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Per partition, before decompression; the library's defaults hold gigabytes under lag.
        ("queued.min.messages", "2000"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.message.max.bytes", "1048576"),
    ];
    let group = Group {
        assignment: Arc::default(),
        refusal: Refusal::default(),
        drain: Duration::from_millis(config.revoke_drain_ms),
        ends: Mutex::new(Ends { reached: HashSet::new(), rebalanced: Instant::now() }),
    };
    let config_of_client = configuration(&config.brokers, &ours, &config.properties);
    let consumer: BaseConsumer<Group> = config_of_client.create_with_context(group).map_err(creation)?;
    for topic in config.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let serve = || drop(consumer.poll(Duration::ZERO));
        ask(&format!("source.kafka: topic `{topic}`"), &consumer.context().refusal, serve, |wait| {
            let metadata = consumer.fetch_metadata(Some(topic), wait)?;
            match metadata.topics().iter().find_map(|found| found.error()) {
                Some(error) => Err(ClientError::MetadataFetch(error.into())),
                None => Ok(()),
            }
        })?;
    }
    Ok(Arc::new(consumer))
}

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
    fn run(self: Box<Self>, outlet: &mut Outlet) -> Result<(), SourceError> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let subscribed = self.consumer.subscribe(&topics);
        subscribed.map_err(|error| failed(format!("source.kafka: topics {}", topics.join(", ")), &error))?;
        // The model may have taken long to load; the group has not been asked for anything before this.
        self.consumer.context().ends().rebalanced = Instant::now();
        let mut until_end = self.until_end.then(|| UntilEnd::begin(&self.consumer, &self.topics));
        let mut early = VecDeque::new();
        let ended = loop {
            let at_end = early.is_empty() && until_end.as_mut().is_some_and(|end| end.is_reached(&self.consumer));
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
                self.judge(error)?;
            }
        }
        ended.map_err(SourceError::from)
    }
}

impl KafkaSource {
    fn assignment(&self) -> &Assignment {
        &self.consumer.context().assignment
    }

    /// What is there now, up to the limits of a run; waits a little if there is nothing.
    fn gather(&self, early: &mut VecDeque<(Arc<Partition>, Record)>) -> Result<Vec<Run>, KafkaError> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut wait = POLL;
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
            match runs.iter_mut().find(|run| Arc::ptr_eq(&run.partition, &partition)) {
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
        outlet: &mut Outlet,
        early: &mut VecDeque<(Arc<Partition>, Record)>,
    ) -> Result<(), Closed> {
        if !self.assignment().owns(&run.partition) {
            return Ok(());
        }
        let next = run.next();
        let mut paused = false;
        let mut tend = || {
            self.pause();
            paused = true;
            match self.poll(Duration::ZERO) {
                Ok(Polled::Record(partition, record)) => early.push_back((partition, record)),
                Ok(Polled::Event | Polled::Nothing) => {}
                // The next poll outside meets it again if it lasts.
                Err(error) => tracing::warn!(%error, "kafka consumer"),
            }
            self.assignment().owns(&run.partition)
        };
        let sent = outlet.send_tended(&run.partition, Body::Each(run.records), 0, TEND, &mut tend);
        if paused {
            self.resume();
        }
        if sent? {
            self.assignment().hand_out(&run.partition, next);
        }
        Ok(())
    }

    fn poll(&self, wait: Duration) -> Result<Polled, KafkaError> {
        match self.consumer.poll(wait) {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) => match self.assignment().partition(message.topic(), message.partition()) {
                Some(partition) => Ok(Polled::Record(partition, self.record(&message))),
                None => Ok(Polled::Event),
            },
            Some(Err(ClientError::PartitionEOF(number))) => {
                self.note_end(number);
                Ok(Polled::Event)
            }
            Some(Err(error)) => self.judge(error).map(|()| Polled::Event),
        }
    }

    /// An error that passes is logged; librdkafka goes on by itself.
    fn judge(&self, error: ClientError) -> Result<(), KafkaError> {
        let code = error.rdkafka_error_code();
        if matches!(error, ClientError::PartitionEOF(_)) || code == Some(Code::PollExceeded) {
            return Ok(());
        }
        let error = failed("source.kafka", &error);
        match error.failure() {
            Failure::Retry => {
                tracing::warn!(%error, "kafka consumer");
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Notes that a partition of this number was read to its end. The event does not name the topic; of several topics'
    /// partitions of that number, each tells of its end once.
    fn note_end(&self, number: i32) {
        let mut ends = self.consumer.context().ends();
        let mut of_number = self.assignment().keys().into_iter().filter(|(_, partition)| *partition == number);
        if let Some(next) = of_number.find(|key| !ends.reached.contains(key)) {
            ends.reached.insert(next);
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
        if let Ok(assigned) = self.consumer.assignment()
            && let Err(error) = self.consumer.resume(&assigned)
        {
            tracing::warn!(%error, "partitions could not be resumed");
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let payload = match (message.payload(), self.format) {
            (None, _) => Payload::Delete,
            (Some(value), ValueFormat::Json) => Payload::Json(owned(value)),
            (Some(value), ValueFormat::Text) => Payload::Text(owned(value)),
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

/// Knows when the topics were read to the ends that they had at the start, by this member or by others of the group.
struct UntilEnd {
    /// High watermarks at the start.
    ends: Vec<(Key, i64)>,
    asked: Instant,
}

/// How often the group's positions are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After so long without a change, partitions of other members are theirs to finish: a dead one would have lost them.
const OTHERS_MAX: Duration = Duration::from_secs(60);

impl UntilEnd {
    fn begin(consumer: &BaseConsumer<Group>, topics: &[String]) -> UntilEnd {
        let mut ends = Vec::new();
        for topic in topics {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), ASK_MAX) else { continue };
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                if let Ok((_, end)) = consumer.fetch_watermarks(topic, partition.id(), ASK_MAX) {
                    ends.push(((topic.as_str().into(), partition.id()), end));
                }
            }
        }
        UntilEnd { ends, asked: Instant::now() }
    }

    fn is_reached(&mut self, consumer: &BaseConsumer<Group>) -> bool {
        let group = consumer.context();
        let ours = group.assignment.keys();
        let patience_is_over = {
            let ends = group.ends();
            if !ours.iter().all(|key| ends.reached.contains(key)) {
                return false;
            }
            ends.rebalanced.elapsed() > OTHERS_MAX
        };
        if patience_is_over {
            return true;
        }
        let others: Vec<(Key, i64)> =
            self.ends.iter().filter(|(key, end)| *end > 0 && !ours.contains(key)).cloned().collect();
        if others.is_empty() {
            return !ours.is_empty();
        }
        if self.asked.elapsed() < ASK_EVERY {
            return false;
        }
        self.asked = Instant::now();
        let committed = consumer.committed_offsets(list(&others), ASK_MAX);
        committed.is_ok_and(|committed| {
            let done = |(key, end): &(Key, i64)| {
                let offset = committed.find_partition(&key.0, key.1).map(|element| element.offset());
                matches!(offset, Some(Offset::Offset(offset)) if offset >= *end)
            };
            others.iter().all(done)
        })
    }
}

enum Polled {
    Record(Arc<Partition>, Record),
    /// Something other than a record happened.
    Event,
    Nothing,
}

/// The group's positions.
pub struct GroupCommits {
    pub consumer: Arc<BaseConsumer<Group>>,
}

impl Commits for GroupCommits {
    fn hold(&self) -> Held<'_> {
        self.consumer.context().assignment.hold()
    }

    fn commit(&self, ends: &[(Key, i64)]) -> Result<(), KafkaError> {
        if ends.is_empty() {
            return Ok(());
        }
        self.consumer.commit(&list(ends), CommitMode::Async).map_err(|error| failed("committing positions", &error))
    }

    fn finish(&self) -> Result<(), KafkaError> {
        let left = self.consumer.context().assignment.uncommitted();
        if left.is_empty() {
            return Ok(());
        }
        self.consumer.commit(&list(&left), CommitMode::Sync).map_err(|error| failed("committing positions", &error))
    }
}

//! Membership in the consumer group: what happens when partitions come and go, and the positions that the group keeps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr as Event;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::client::{QUERY_MAX, Refusal, configuration, creation, failed, log, query_with_timeout};
use super::eof_tracker::EofTracker;
use super::statistics;
use crate::delivery::OffsetCommitter;
use crate::delivery::assignment::{Assignment, AssignmentGuard, TopicPartition};
use crate::failure::{ClientError, Failure};
use crate::kafka::KafkaError;
use crate::kafka::config::{KafkaSourceConfig, StartAt};
use crate::telemetry::events;

/// How often and how long the last positions of all are tried to be committed.
const LAST_COMMITS: u32 = 5;
const LAST_COMMIT_PAUSE: Duration = Duration::from_secs(1);
/// How long a new partition's position may be held back: longer than the brokers wait for a dead copy's transaction.
const PLACE_MAX: Duration = Duration::from_secs(60);
const PLACE_PAUSE: Duration = Duration::from_millis(200);
/// How long leaving the group may take.
pub const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Serves rebalances, inside poll.
pub struct Group {
    pub assignment: Arc<Assignment>,
    pub refusal: Refusal,
    start: StartAt,
    drain: Duration,
    ends: Mutex<EofTracker>,
}

impl Group {
    pub fn ends(&self) -> MutexGuard<'_, EofTracker> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let keys = keys(partitions);
        let lost = consumer.assignment_lost();
        tracing::info!(partitions = ?keys, lost, "partitions are taken away");
        // What is lost is somebody else's already.
        let drain = if lost { Duration::ZERO } else { self.drain };
        self.assignment.revoke(&keys, drain, |left| {
            if !left.is_empty()
                && !consumer.assignment_lost()
                && let Err(error) = commit(consumer, left, CommitMode::Sync)
            {
                tracing::warn!(%error, "positions could not be committed; their records are read again");
            }
        });
        let gone = keys.iter().map(|(topic, partition)| (&**topic, *partition));
        events::partitions_revoked(gone, lost, self.assignment.keys().len());
        self.ends().revoked(&keys);
    }

    /// OutputKind every partition the offset to begin at: what the group has committed, else what `start` says.
    ///
    /// librdkafka 2.12 would ask for itself, but loses the question: if an open transaction holds a position back while the
    /// assignment changes, it takes the answer for "nothing was committed" (`rd_kafka_assignment_apply_offsets` puts the
    /// partition back with an invalid offset) and begins at `auto.offset.reset`: rows come twice, or never.
    fn resolve_start_offsets(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &mut TopicPartitionList,
    ) -> Result<(), RdKafkaError> {
        if partitions.count() == 0 {
            return Ok(());
        }
        let committed = committed(consumer, partitions)?;
        let mut times = TopicPartitionList::new();
        for element in committed.elements() {
            let (topic, number) = (element.topic(), element.partition());
            match (element.offset(), &self.start) {
                (Offset::Offset(offset), _) if offset >= 0 => {
                    partitions.set_partition_offset(topic, number, Offset::Offset(offset))?;
                }
                (_, StartAt::Earliest) => partitions.set_partition_offset(topic, number, Offset::Beginning)?,
                (_, StartAt::Latest) => partitions.set_partition_offset(topic, number, Offset::End)?,
                (_, StartAt::Timestamp { milliseconds, .. }) => {
                    times.add_partition_offset(topic, number, Offset::Offset(*milliseconds))?;
                }
            }
        }
        if times.count() == 0 {
            return Ok(());
        }
        for found in consumer.offsets_for_times(times, QUERY_MAX)?.elements() {
            // No message is that young: what comes from now on is.
            let offset = match found.offset() {
                Offset::Offset(offset) if offset >= 0 => Offset::Offset(offset),
                _ => Offset::Offset(consumer.fetch_watermarks(found.topic(), found.partition(), QUERY_MAX)?.1),
            };
            partitions.set_partition_offset(found.topic(), found.partition(), offset)?;
        }
        Ok(())
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let keys = keys(partitions);
        tracing::info!(partitions = ?keys, "partitions are ours");
        if let Err(error) = self.resolve_start_offsets(consumer, partitions) {
            let what = "source.kafka: where to begin could not be asked for";
            // Whatever begins elsewhere would be read from the wrong place: the source stops at its next poll.
            self.ends().failed(failed(what, &error));
            return;
        }
        self.assignment.assign(keys);
        events::partitions_assigned(self.assignment.keys().len());
        self.ends().assigned();
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        // rdkafka tells an end here too.
        if error.rdkafka_error_code() == Some(Code::PartitionEOF) {
            return;
        }
        self.refusal.note(&error, reason);
        tracing::warn!(%error, reason, "kafka consumer");
    }

    fn stats(&self, statistics: Statistics) {
        statistics::observe(&statistics, &self.assignment);
    }
}

impl ConsumerContext for Group {
    /// As librdkafka does it, but for the place at which a partition begins.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: Event, partitions: &mut TopicPartitionList) {
        let changed = match event {
            Event::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.assigned(consumer, partitions);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
                    _ => consumer.assign(partitions),
                }
            }
            _ => {
                if event != Event::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS {
                    tracing::warn!(error = ?event, "rebalance");
                }
                self.revoked(consumer, partitions);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
                    // Out of the group, as while it is left, there is no protocol.
                    _ => consumer.unassign(),
                }
            }
        };
        if let Err(error) = changed {
            events::rebalance_failed();
            tracing::warn!(%error, "rebalance");
        }
    }

    fn commit_callback(&self, result: Result<(), RdKafkaError>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(RdKafkaError::ConsumerCommit(Code::NoOffset)) => {}
            // The next commit covers it, and so does the one at the end.
            Err(error) => tracing::warn!(%error, "positions could not be committed"),
        }
    }
}

/// The group's positions, each of which is certain. A position that an open transaction holds back is waited for: the
/// coordinator ends what a dead copy left open.
fn committed(
    consumer: &BaseConsumer<Group>,
    partitions: &TopicPartitionList,
) -> Result<TopicPartitionList, RdKafkaError> {
    let deadline = Instant::now() + PLACE_MAX;
    loop {
        let asked = consumer.committed_offsets(partitions.clone(), QUERY_MAX).and_then(|committed| {
            committed.elements().iter().try_for_each(|element| element.error())?;
            Ok(committed)
        });
        match asked {
            Err(error) if Instant::now() < deadline && waits(&error) => {
                tracing::debug!(%error, "the group's positions are not certain yet");
                std::thread::sleep(PLACE_PAUSE);
            }
            other => return other,
        }
    }
}

/// Whether the answer may be another one soon.
fn waits(error: &RdKafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::UnstableOffsetCommit)
        || failed("positions", error).failure() == Failure::Retry
}

fn keys(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions.elements().iter().map(|element| (element.topic().into(), element.partition())).collect()
}

pub fn list(ends: &[(TopicPartition, i64)]) -> TopicPartitionList {
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
    let properties = [
        ("group.id", config.group.as_str()),
        ("auto.offset.reset", config.start.reset()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", eof.as_str()),
        ("isolation.level", "read_committed"),
        ("statistics.interval.ms", statistics::interval_ms()),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Per partition, before decompression; the library's defaults hold gigabytes under lag.
        ("queued.min.messages", "2000"),
        // How often a full queue is looked at again; the default lets it run dry for a second.
        ("fetch.queue.backoff.ms", "10"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.message.max.bytes", "1048576"),
    ];
    let group = Group {
        assignment: Arc::default(),
        refusal: Refusal::default(),
        start: config.start.clone(),
        drain: Duration::from_millis(config.revoke_drain_ms),
        ends: Mutex::new(EofTracker::new(Instant::now())),
    };
    let config_of_client = configuration(&config.consumer_cluster(), &properties);
    let consumer: BaseConsumer<Group> = config_of_client.create_with_context(group).map_err(creation)?;
    for topic in config.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let serve = || drop(consumer.poll(Duration::ZERO));
        query_with_timeout(&format!("source.kafka: topic `{topic}`"), &consumer.context().refusal, serve, |wait| {
            let metadata = consumer.fetch_metadata(Some(topic), wait)?;
            match metadata.topics().iter().find_map(|found| found.error()) {
                Some(error) => Err(RdKafkaError::MetadataFetch(error.into())),
                None => Ok(()),
            }
        })?;
    }
    Ok(Arc::new(consumer))
}

/// OffsetCommitter, and counts it. (rdkafka 0.39 registers no callback for what librdkafka answers to an asynchronous commit.)
fn commit(
    consumer: &BaseConsumer<Group>,
    ends: &[(TopicPartition, i64)],
    mode: CommitMode,
) -> Result<(), RdKafkaError> {
    let committed = consumer.commit(&list(ends), mode);
    events::committed(committed.is_ok());
    committed
}

/// The group's positions.
pub struct GroupOffsets {
    pub consumer: Arc<BaseConsumer<Group>>,
}

impl OffsetCommitter for GroupOffsets {
    fn lock(&self) -> AssignmentGuard<'_> {
        self.consumer.context().assignment.lock()
    }

    fn commit(&self, ends: &[(TopicPartition, i64)]) -> Result<(), ClientError> {
        if ends.is_empty() {
            return Ok(());
        }
        commit(&self.consumer, ends, CommitMode::Async).map_err(|error| failed("committing positions", &error))?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        let committed = self.commit_the_last();
        leave(self.consumer);
        Ok(committed?)
    }
}

impl GroupOffsets {
    fn commit_the_last(&self) -> Result<(), KafkaError> {
        for attempt in 1.. {
            let left = self.consumer.context().assignment.uncommitted();
            if left.is_empty() {
                break;
            }
            let Err(error) = commit(&self.consumer, &left, CommitMode::Sync) else { break };
            let error = failed("committing positions", &error);
            if attempt == LAST_COMMITS || error.failure() != Failure::Retry {
                return Err(error);
            }
            tracing::warn!(%error, "positions could not be committed; trying again");
            std::thread::sleep(LAST_COMMIT_PAUSE);
        }
        Ok(())
    }
}

/// Leaves the group. librdkafka 2.12 may wait for ever in it if a rebalance comes at the same time, so it is not waited for
/// longer than the others of the group would need to miss this member.
fn leave(consumer: Arc<BaseConsumer<Group>>) {
    let (left, wait) = std::sync::mpsc::channel();
    let started = std::thread::Builder::new().name("leave-group".into()).spawn(move || {
        drop(consumer);
        let _ = left.send(());
    });
    if started.is_err() || wait.recv_timeout(LEAVE_MAX).is_err() {
        tracing::warn!("the group could not be left in time; it misses this member after the session's timeout");
    }
}

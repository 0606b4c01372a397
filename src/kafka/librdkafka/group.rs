//! The consumer's membership in its group: what happens when partitions are assigned and revoked, and the group's committed
//! offsets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr as Event;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::client::{QUERY_MAX, Refusal, configuration, creation_failed, log, operation_failed, query_with_timeout};
use super::eof_tracker::EofTracker;
use super::statistics;
use crate::delivery::assignment::{Assignment, AssignmentGuard, TopicPartition};
use crate::delivery::{NextOffsets, OffsetCommitter};
use crate::failure::{ClientError, Failure};
use crate::kafka::KafkaError;
use crate::kafka::config::{KafkaSourceConfig, StartAt};
use crate::telemetry::events;

/// How often the final commit is attempted, and the pause between attempts.
const FINAL_COMMIT_ATTEMPTS: u32 = 5;
const FINAL_COMMIT_PAUSE: Duration = Duration::from_secs(1);
/// How long an open transaction may hold back the committed offset of a newly assigned partition: longer than the
/// coordinator waits before it aborts the transaction of a dead instance.
const STABLE_OFFSETS_MAX: Duration = Duration::from_secs(60);
const STABLE_OFFSETS_PAUSE: Duration = Duration::from_millis(200);
/// How long leaving the group may take.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(10);

/// The consumer's context. librdkafka calls it for rebalances, from inside a poll.
pub(super) struct GroupContext {
    pub assignment: Arc<Assignment>,
    pub refusal: Refusal,
    start: StartAt,
    revoke_drain: Duration,
    eof_tracker: Mutex<EofTracker>,
    /// An error of a rebalance after which reading must not continue.
    fatal_error: Mutex<Option<KafkaError>>,
}

impl GroupContext {
    pub(super) fn eof_tracker(&self) -> MutexGuard<'_, EofTracker> {
        self.eof_tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a rebalance after which reading must not continue, at most once.
    pub(super) fn take_fatal_error(&self) -> Option<KafkaError> {
        self.fatal_error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: KafkaError) {
        self.fatal_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let partitions = topic_partitions(partitions);
        let lost = consumer.assignment_lost();
        match lost {
            true => tracing::info!(?partitions, "partitions lost"),
            false => tracing::info!(?partitions, "partitions revoked"),
        }
        // Lost partitions already belong to another member, so there is nothing left to wait for.
        let drain = if lost { Duration::ZERO } else { self.revoke_drain };
        self.assignment.revoke(&partitions, drain, |uncommitted| {
            if !uncommitted.is_empty()
                && !consumer.assignment_lost()
                && let Err(error) = commit(consumer, uncommitted, CommitMode::Sync)
            {
                tracing::warn!(%error, "committing offsets of revoked partitions failed; their records will be read again");
            }
        });
        let revoked = partitions.iter().map(|(topic, number)| (&**topic, *number));
        events::partitions_revoked(revoked, lost, self.assignment.topic_partitions().len());
        self.eof_tracker().revoked(&partitions);
    }

    /// Sets the offset at which each partition starts: the group's committed offset, or else what `start` says.
    ///
    /// librdkafka 2.12 would look it up itself, but with a bug: if an open transaction holds back a committed offset while
    /// the assignment changes, it treats the answer as "no committed offset" (`rd_kafka_assignment_apply_offsets` puts the
    /// partition back with an invalid offset) and starts at `auto.offset.reset`. Rows would be published twice, or never.
    fn resolve_start_offsets(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &mut TopicPartitionList,
    ) -> Result<(), RdKafkaError> {
        if partitions.count() == 0 {
            return Ok(());
        }
        let committed = stable_committed_offsets(consumer, partitions)?;
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
            // Without a message of this time or later, the partition starts at its end.
            let offset = match found.offset() {
                Offset::Offset(offset) if offset >= 0 => Offset::Offset(offset),
                _ => Offset::Offset(consumer.fetch_watermarks(found.topic(), found.partition(), QUERY_MAX)?.1),
            };
            partitions.set_partition_offset(found.topic(), found.partition(), offset)?;
        }
        Ok(())
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let assigned = topic_partitions(partitions);
        tracing::info!(partitions = ?assigned, "partitions assigned");
        if let Err(error) = self.resolve_start_offsets(consumer, partitions) {
            // The partitions would start at other offsets and be read from there, so the source stops at its next poll.
            self.fail(operation_failed("source.kafka: querying the offsets to start at", &error));
            return;
        }
        self.assignment.assign(assigned);
        events::partitions_assigned(self.assignment.topic_partitions().len());
        self.eof_tracker().assigned();
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        // rdkafka also reports the end of a partition here.
        if error.rdkafka_error_code() == Some(Code::PartitionEOF) {
            return;
        }
        self.refusal.observe(&error, reason);
        tracing::warn!(%error, reason, "kafka consumer error");
    }

    fn stats(&self, statistics: Statistics) {
        statistics::observe(&statistics, &self.assignment);
    }
}

impl ConsumerContext for GroupContext {
    /// Does what librdkafka does by default, but sets the offsets at which partitions start.
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
                    tracing::warn!(error = ?event, "rebalance failed");
                }
                self.revoked(consumer, partitions);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
                    // Outside the group, such as while leaving it, there is no protocol.
                    _ => consumer.unassign(),
                }
            }
        };
        if let Err(error) = changed {
            events::rebalance_failed();
            tracing::warn!(%error, "rebalance failed");
        }
    }

    fn commit_callback(&self, result: Result<(), RdKafkaError>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(RdKafkaError::ConsumerCommit(Code::NoOffset)) => {}
            // The next commit covers these offsets, and so does the final one.
            Err(error) => tracing::warn!(%error, "committing offsets failed"),
        }
    }
}

/// The group's committed offsets. While an open transaction holds one of them back, this waits: the coordinator aborts the
/// transaction of a dead instance.
fn stable_committed_offsets(
    consumer: &BaseConsumer<GroupContext>,
    partitions: &TopicPartitionList,
) -> Result<TopicPartitionList, RdKafkaError> {
    let deadline = Instant::now() + STABLE_OFFSETS_MAX;
    loop {
        let answer = consumer.committed_offsets(partitions.clone(), QUERY_MAX).and_then(|committed| {
            committed.elements().iter().try_for_each(|element| element.error())?;
            Ok(committed)
        });
        match answer {
            Err(error) if Instant::now() < deadline && may_succeed_later(&error) => {
                tracing::debug!(%error, "committed offsets are not stable yet; waiting");
                std::thread::sleep(STABLE_OFFSETS_PAUSE);
            }
            other => return other,
        }
    }
}

fn may_succeed_later(error: &RdKafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::UnstableOffsetCommit)
        || operation_failed("committed offsets", error).failure() == Failure::Retry
}

fn topic_partitions(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions.elements().iter().map(|element| (element.topic().into(), element.partition())).collect()
}

/// The offsets as librdkafka takes them.
pub(super) fn offset_list(offsets: &NextOffsets) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for ((topic, partition), next) in offsets {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        debug_assert!(added.is_ok(), "an offset that was read is valid");
    }
    list
}

/// A consumer that has found its topics, but has not joined the group.
///
/// # Errors
/// If a topic does not exist or may not be described, or the brokers cannot be reached or refuse this client.
pub(super) fn open_consumer(config: &KafkaSourceConfig) -> Result<Arc<BaseConsumer<GroupContext>>, KafkaError> {
    let eof = config.until_end.to_string();
    let properties = [
        ("group.id", config.group.as_str()),
        ("auto.offset.reset", config.start.auto_offset_reset()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", eof.as_str()),
        ("isolation.level", "read_committed"),
        ("statistics.interval.ms", statistics::interval_ms()),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Limits per partition, before decompression; librdkafka's defaults hold gigabytes when the consumer lags.
        ("queued.min.messages", "2000"),
        // How soon a queue that was full is refilled; with the default it stays empty for up to a second.
        ("fetch.queue.backoff.ms", "10"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.message.max.bytes", "1048576"),
    ];
    let context = GroupContext {
        assignment: Arc::default(),
        refusal: Refusal::default(),
        start: config.start.clone(),
        revoke_drain: Duration::from_millis(config.revoke_drain_ms),
        eof_tracker: Mutex::new(EofTracker::new(Instant::now())),
        fatal_error: Mutex::default(),
    };
    let client_config = configuration(&config.consumer_cluster(), &properties);
    let consumer: BaseConsumer<GroupContext> = client_config.create_with_context(context).map_err(creation_failed)?;
    for topic in config.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let serve = || drop(consumer.poll(Duration::ZERO));
        query_with_timeout(&format!("source.kafka: topic {topic:?}"), &consumer.context().refusal, serve, |wait| {
            let metadata = consumer.fetch_metadata(Some(topic), wait)?;
            match metadata.topics().iter().find_map(|found| found.error()) {
                Some(error) => Err(RdKafkaError::MetadataFetch(error.into())),
                None => Ok(()),
            }
        })?;
    }
    Ok(Arc::new(consumer))
}

/// Commits, and counts the commit. (For an asynchronous commit this counts the call: rdkafka 0.39 registers no callback for
/// librdkafka's answer.)
fn commit(consumer: &BaseConsumer<GroupContext>, offsets: &NextOffsets, mode: CommitMode) -> Result<(), RdKafkaError> {
    let committed = consumer.commit(&offset_list(offsets), mode);
    events::committed(committed.is_ok());
    committed
}

fn commit_failed(error: &RdKafkaError) -> KafkaError {
    operation_failed("source.kafka: committing offsets", error)
}

/// Commits the group's offsets.
pub(super) struct GroupCommitter {
    pub consumer: Arc<BaseConsumer<GroupContext>>,
}

impl OffsetCommitter for GroupCommitter {
    fn lock(&self) -> AssignmentGuard<'_> {
        self.consumer.context().assignment.lock()
    }

    fn commit(&self, offsets: &NextOffsets) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        commit(&self.consumer, offsets, CommitMode::Async).map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        let committed = self.commit_remaining();
        leave_group(self.consumer);
        Ok(committed?)
    }
}

impl GroupCommitter {
    fn commit_remaining(&self) -> Result<(), KafkaError> {
        for attempt in 1.. {
            let uncommitted = self.consumer.context().assignment.uncommitted();
            if uncommitted.is_empty() {
                break;
            }
            let Err(error) = commit(&self.consumer, &uncommitted, CommitMode::Sync) else { break };
            let error = commit_failed(&error);
            if attempt == FINAL_COMMIT_ATTEMPTS || error.failure() != Failure::Retry {
                return Err(error);
            }
            tracing::warn!(%error, "committing offsets failed; trying again");
            std::thread::sleep(FINAL_COMMIT_PAUSE);
        }
        Ok(())
    }
}

/// Leaves the group by closing the consumer. librdkafka 2.12 may block forever there if a rebalance happens at the same
/// time, so this waits for [`LEAVE_MAX`] at most.
fn leave_group(consumer: Arc<BaseConsumer<GroupContext>>) {
    let (done, wait) = std::sync::mpsc::channel();
    let started = std::thread::Builder::new().name("leave-group".into()).spawn(move || {
        drop(consumer);
        let _ = done.send(());
    });
    if started.is_err() || wait.recv_timeout(LEAVE_MAX).is_err() {
        tracing::warn!(
            "leaving the consumer group timed out; the broker will evict this member after session.timeout.ms"
        );
    }
}

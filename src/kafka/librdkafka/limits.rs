//! The limits of a message and of a transaction's calls, and the check that the topics of a run can take what it writes.

use std::time::Duration;

use super::topic::{Topic, TopicLimits};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::config::{KafkaSinkConfig, Layout};

/// How long one call of a transaction may take. A call that timed out is resumed by the next one.
pub(super) const TRANSACTION_CALL_MAX: Duration = Duration::from_secs(30);
/// When the coordinator aborts an open transaction of a dead process. Until then `read_committed` consumers wait for it.
pub(super) const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// How much of a topic's message limit is kept free for the key, headers and framing.
pub(super) const MESSAGE_OVERHEAD_BYTES: usize = 4 << 10;
/// How much of a dead letter's cause is kept when parts of the record have to be left out.
pub(super) const CAUSE_BYTES_MAX: usize = 1 << 10;
/// The message limit that a dead-letter topic needs at least: enough for the headers with the cause, once the record's value,
/// headers and key are left out.
pub(super) const DEAD_LETTER_BYTES_MIN: usize = MESSAGE_OVERHEAD_BYTES + 2 * CAUSE_BYTES_MAX;

/// Refuses a topic that could never take the rows of this sink.
pub(super) fn check_row_limits(sink: &KafkaSinkConfig, limits: TopicLimits) -> Result<(), KafkaError> {
    if limits.is_compacted && sink.layout == Layout::Batch {
        let message = "a compacted topic takes no messages without a key; expected `sink.kafka.layout: row`, or a topic \
                       with cleanup.policy=delete";
        return refuse(format!("sink.kafka: topic {:?}", sink.topic), message);
    }
    Ok(())
}

/// Refuses a topic that could not take every dead letter, or would not keep them.
pub(super) fn check_dead_letter_limits(topic: &Topic, limits: TopicLimits) -> Result<(), KafkaError> {
    let subject = format!("dead_letter: topic {:?}", topic.name);
    if limits.is_compacted {
        let message = "a compacted topic forgets older dead letters and takes none without a key; expected a topic with \
                       cleanup.policy=delete";
        return refuse(subject, message);
    }
    if limits.message_bytes_max < DEAD_LETTER_BYTES_MIN {
        let found = limits.message_bytes_max;
        return refuse(subject, format!("found max.message.bytes {found}; expected at least {DEAD_LETTER_BYTES_MIN}"));
    }
    Ok(())
}

fn refuse(subject: String, message: impl Into<String>) -> Result<(), KafkaError> {
    Err(KafkaError::Failed { subject, message: message.into(), failure: Failure::Fatal })
}

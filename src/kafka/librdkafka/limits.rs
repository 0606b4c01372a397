//! What bounds a message and a transaction, and the topics that are refused because they would take nothing.

use std::time::Duration;

use super::topic::{Limits, Topic};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::kafka::config::{KafkaSinkConfig, Layout};

/// One call of a transaction; librdkafka resumes where a call that timed out had stopped.
pub const TRANSACTION_CALL_MAX: Duration = Duration::from_secs(30);
/// How long the coordinator keeps an open transaction of a process that died. `read_committed` consumers wait for it.
pub const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// What a message's key, headers and framing may take of the topic's limit.
pub const MESSAGE_OVERHEAD_BYTES: usize = 4 << 10;
/// Most bytes of a dead letter's cause where room is scarce.
pub const CAUSE_BYTES_MAX: usize = 1 << 10;
/// What a dead letter whose value, headers and key are left out may still take: its headers with the cause.
pub const DEAD_LETTER_BYTES_MIN: usize = MESSAGE_OVERHEAD_BYTES + 2 * CAUSE_BYTES_MAX;

/// Refuses topics that would take nothing.
pub fn check_limits(sink: &KafkaSinkConfig, rows: Limits, letters: Option<(&Topic, Limits)>) -> Result<(), KafkaError> {
    let refuse = |what: String, message: String| Err(KafkaError::Failed { what, message, failure: Failure::Fatal });
    if rows.is_compacted && sink.layout == Layout::Batch {
        let message = "is compacted and takes no message without a key; expected `layout: row`, or a topic whose \
                       cleanup.policy is delete";
        return refuse(format!("sink.kafka: topic `{}`", sink.topic), message.into());
    }
    let Some((topic, letters)) = letters else { return Ok(()) };
    let what = format!("dead_letter: topic `{}`", topic.name);
    if letters.is_compacted {
        let message =
            "is compacted: it would forget letters, and take none without a key; set its cleanup.policy to delete";
        return refuse(what, message.into());
    }
    if letters.message_bytes_max < DEAD_LETTER_BYTES_MIN {
        let bytes = letters.message_bytes_max;
        let message =
            format!("takes messages of {bytes} bytes at most; raise its max.message.bytes to {DEAD_LETTER_BYTES_MIN}");
        return refuse(what, message);
    }
    Ok(())
}

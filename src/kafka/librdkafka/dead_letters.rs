//! A dead letter as a message: key, value and headers as they came, and what was wrong in headers of ours. What its topic
//! would not take is left out, and said so.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::limits::{CAUSE_BYTES_MAX, MESSAGE_OVERHEAD_BYTES};
use super::topic::Topic;
use crate::record::DeadLetter;

/// There if the value was too large for the dead letters' topic.
pub const VALUE_LEFT_OUT: &str = "embedmill.value-left-out";
/// How often the record was rejected.
pub const ATTEMPT: &str = "embedmill.attempt";

/// What of a dead letter is left out, in this order, until the topic takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    Nothing,
    Value,
    /// And the headers.
    Headers,
    /// And the key.
    Key,
}

/// The message for a letter in a topic that takes so many bytes at most.
pub fn message<'a>(letter: &'a DeadLetter, topic: &'a Topic, bytes_max: usize) -> BaseRecord<'a, [u8], [u8]> {
    let left_out = left_out(letter, bytes_max);
    let mut headers = OwnedHeaders::new();
    let mut attempt = 1_u32;
    for (name, value) in letter.envelope.iter().flat_map(|envelope| &envelope.headers) {
        if name == ATTEMPT {
            let before = value.as_ref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok());
            attempt = before.map_or(1, |before| before.saturating_add(1));
        } else if !name.starts_with("embedmill.") && left_out < LeftOut::Headers {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
    }
    let (position, attempt) = (letter.position.to_string(), attempt.to_string());
    let mut cause = letter.cause.clone();
    if left_out > LeftOut::Nothing {
        let what = match left_out {
            LeftOut::Key => "value, headers and key",
            LeftOut::Headers => "value and headers",
            LeftOut::Value | LeftOut::Nothing => "value",
        };
        cause = format!(
            "{} (its {what} of {} bytes are left out: this topic takes {} at most)",
            short(&cause),
            weight(letter),
            bytes_max
        );
    }
    let own_headers = [
        ("embedmill.cause", cause.as_str()),
        ("embedmill.stage", letter.stage.as_str()),
        ("embedmill.position", position.as_str()),
        (ATTEMPT, attempt.as_str()),
        ("embedmill.version", env!("CARGO_PKG_VERSION")),
    ];
    for (key, value) in own_headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    if left_out > LeftOut::Nothing {
        headers = headers.insert(Header { key: VALUE_LEFT_OUT, value: Some("true") });
    }
    let to = letter.position.partition.ordinal() as i32 % topic.partitions;
    let mut record = BaseRecord::<[u8], [u8]>::to(&topic.name).partition(to).headers(headers);
    // A delete has no value, which is not an empty one.
    if let Some(value) = &letter.raw {
        record = record.payload(if left_out == LeftOut::Nothing { &value[..] } else { &[] });
    }
    if let Some(key) = letter.envelope.as_ref().and_then(|envelope| envelope.key.as_deref())
        && left_out < LeftOut::Key
    {
        record = record.key(key);
    }
    record
}

/// What the dead letters' topic would not take.
fn left_out(letter: &DeadLetter, bytes_max: usize) -> LeftOut {
    let most = bytes_max.saturating_sub(MESSAGE_OVERHEAD_BYTES + short(&letter.cause).len());
    let key = letter.envelope.as_ref().and_then(|envelope| envelope.key.as_ref()).map_or(0, Bytes::len);
    let value = letter.raw.as_ref().map_or(0, Bytes::len);
    match weight(letter) {
        whole if whole + letter.cause.len() <= most => LeftOut::Nothing,
        whole if whole - value <= most => LeftOut::Value,
        _ if key <= most => LeftOut::Headers,
        _ => LeftOut::Key,
    }
}

/// Bytes of a dead letter's value, key and headers.
fn weight(letter: &DeadLetter) -> usize {
    // Each header's framing takes a few bytes.
    let headers = letter.envelope.as_ref().map_or(0, |envelope| envelope.headers.len()) * 16;
    letter.raw.as_ref().map_or(0, Bytes::len)
        + headers
        + letter.envelope.as_ref().map_or(0, |envelope| envelope.bytes())
}

/// The beginning of a cause that would not leave room for itself.
fn short(cause: &str) -> &str {
    &cause[..cause.floor_char_boundary(CAUSE_BYTES_MAX)]
}

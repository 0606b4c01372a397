//! A dead letter as a message: the record's key, value and headers as they were read, and the cause in headers that begin
//! with `embedmill.`. Parts that exceed the topic's message limit are left out, and the cause says so.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::limits::{CAUSE_BYTES_MAX, MESSAGE_OVERHEAD_BYTES};
use super::topic::Topic;
use crate::kafka::headers;
use crate::record::DeadLetter;

/// Which parts of a dead letter are left out, so that the message fits. Each variant leaves out one part more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    Nothing,
    Value,
    ValueAndHeaders,
    ValueHeadersAndKey,
}

/// The message for a dead letter in a topic whose messages have at most `bytes_max` bytes.
pub(super) fn message<'a>(
    dead_letter: &'a DeadLetter,
    topic: &'a Topic,
    bytes_max: usize,
) -> BaseRecord<'a, [u8], [u8]> {
    let left_out = left_out(dead_letter, bytes_max);
    let mut headers = OwnedHeaders::new();
    let mut attempt = 1_u32;
    for (name, value) in dead_letter.envelope.iter().flat_map(|envelope| &envelope.headers) {
        if name == headers::ATTEMPT {
            let before = value.as_ref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok());
            attempt = before.map_or(1, |before| before.saturating_add(1));
        } else if !name.starts_with(headers::PREFIX) && left_out < LeftOut::ValueAndHeaders {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
    }
    let (position, attempt) = (dead_letter.position.to_string(), attempt.to_string());
    let cause = cause(dead_letter, left_out, bytes_max);
    let own_headers = [
        (headers::CAUSE, cause.as_str()),
        (headers::STAGE, dead_letter.stage.as_str()),
        (headers::POSITION, position.as_str()),
        (headers::ATTEMPT, attempt.as_str()),
        (headers::VERSION, env!("CARGO_PKG_VERSION")),
    ];
    for (key, value) in own_headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    if left_out > LeftOut::Nothing {
        headers = headers.insert(Header { key: headers::VALUE_LEFT_OUT, value: Some("true") });
    }
    let partition = dead_letter.position.partition.ordinal() as i32 % topic.partitions;
    let mut record = BaseRecord::<[u8], [u8]>::to(&topic.name).partition(partition).headers(headers);
    // The message of a delete has no value, which differs from an empty one.
    if let Some(value) = &dead_letter.raw {
        record = record.payload(if left_out == LeftOut::Nothing { &value[..] } else { &[] });
    }
    if let Some(key) = dead_letter.envelope.as_ref().and_then(|envelope| envelope.key.as_deref())
        && left_out < LeftOut::ValueHeadersAndKey
    {
        record = record.key(key);
    }
    record
}

/// The cause of the rejection, and which parts of the record the message lacks.
fn cause(dead_letter: &DeadLetter, left_out: LeftOut, bytes_max: usize) -> String {
    let parts = match left_out {
        LeftOut::Nothing => return dead_letter.cause.clone(),
        LeftOut::Value => "value",
        LeftOut::ValueAndHeaders => "value and headers",
        LeftOut::ValueHeadersAndKey => "value, headers and key",
    };
    format!(
        "{} (the record's {parts} are left out: it has {} bytes, and this topic takes messages of at most {bytes_max})",
        shortened(&dead_letter.cause),
        record_bytes(dead_letter)
    )
}

/// Decides what to leave out: the value first, then the headers, then the key.
fn left_out(dead_letter: &DeadLetter, bytes_max: usize) -> LeftOut {
    let record_bytes_max = bytes_max.saturating_sub(MESSAGE_OVERHEAD_BYTES + shortened(&dead_letter.cause).len());
    let key = dead_letter.envelope.as_ref().and_then(|envelope| envelope.key.as_ref()).map_or(0, Bytes::len);
    let value = dead_letter.raw.as_ref().map_or(0, Bytes::len);
    match record_bytes(dead_letter) {
        all if all + dead_letter.cause.len() <= record_bytes_max => LeftOut::Nothing,
        all if all - value <= record_bytes_max => LeftOut::Value,
        _ if key <= record_bytes_max => LeftOut::ValueAndHeaders,
        _ => LeftOut::ValueHeadersAndKey,
    }
}

/// The size of a dead letter's value, key and headers.
fn record_bytes(dead_letter: &DeadLetter) -> usize {
    // The framing of each header takes a few bytes.
    let framing = dead_letter.envelope.as_ref().map_or(0, |envelope| envelope.headers.len()) * 16;
    dead_letter.raw.as_ref().map_or(0, Bytes::len)
        + framing
        + dead_letter.envelope.as_ref().map_or(0, |envelope| envelope.bytes())
}

/// The beginning of a cause, so that a long one leaves room for the rest of the message.
fn shortened(cause: &str) -> &str {
    &cause[..cause.floor_char_boundary(CAUSE_BYTES_MAX)]
}

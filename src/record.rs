//! What flows before the model: records as a source reads them, and blocks of rows ready to be encoded.
//!
//! A [`Records`] is a run of consecutive records of one partition. The text stages turn it into a [`Block`]: the same
//! records, the rows made from them (ids, tokens, kept columns) and the records that were rejected. Rows are kept in
//! columns, never one allocation a row, and each names the record that it came from.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::budget::Permit;
use crate::columnar::{Columns, Table};

/// A sequence of records with an order of its own: a file, or a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// A file by the path that the user gave, or `-` for standard input; `ordinal` is its place among the inputs.
    File { ordinal: u32, path: String },
    /// A partition of a Kafka topic, as it was assigned at one time: `epoch` tells it from the same partition before it
    /// was revoked and given back.
    Topic { topic: Arc<str>, partition: i32, epoch: u64 },
    /// Records handed over in memory, by a number; tests use it.
    Memory(u32),
}

impl Partition {
    /// The value of the `source` column.
    pub fn name(&self) -> String {
        match self {
            Partition::File { path, .. } => path.clone(),
            Partition::Topic { topic, partition, .. } => format!("{topic}[{partition}]"),
            Partition::Memory(number) => format!("memory-{number}"),
        }
    }

    /// The partition's number, as files are named by it.
    pub fn ordinal(&self) -> u32 {
        match self {
            Partition::File { ordinal, .. } | Partition::Memory(ordinal) => *ordinal,
            Partition::Topic { partition, .. } => u32::try_from(*partition).unwrap_or(0),
        }
    }
}

/// One record's place: its partition and its number there, counted from 0.
///
/// For line formats the offset is the line's, blank lines included; it is shown as the line number that editors show,
/// counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub partition: Arc<Partition>,
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.partition {
            Partition::File { path, .. } => write!(f, "{path}:{}", self.offset + 1),
            Partition::Topic { topic, partition, .. } => write!(f, "{topic}[{partition}]@{}", self.offset),
            Partition::Memory(number) => write!(f, "memory-{number}@{}", self.offset),
        }
    }
}

/// A run of consecutive records of one partition, with the bytes that they hold of the memory budget.
#[derive(Debug)]
pub struct Records {
    pub partition: Arc<Partition>,
    pub body: Body,
    /// Bytes of the whole input that are behind once these records are settled; progress bars show it.
    pub input_bytes_read: u64,
    pub permit: Permit,
    pub times: Times,
}

/// When what happened to a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The source had it, and asked for room.
    pub asked: Instant,
    /// It went on.
    pub read: Instant,
    /// Extracting it began.
    pub began: Instant,
    /// It was a block.
    pub prepared: Instant,
}

impl Times {
    /// Of a run that goes on now, and was asked room for then.
    pub fn read(asked: Instant, read: Instant) -> Times {
        Times { asked, read, began: read, prepared: read }
    }
}

/// The records themselves, in ascending order of offset.
#[derive(Debug, Clone)]
pub enum Body {
    /// Records that come one by one: lines, CSV rows, messages.
    Each(Vec<Record>),
    /// One record that holds any number of rows, as an Arrow IPC stream: a message.
    Batch(Box<Record>),
    /// Records that are columnar already: a batch of a Parquet or Arrow file. Row `i` has offset `first_offset + i`.
    Table { first_offset: u64, table: Table },
}

impl Body {
    /// Number of records.
    pub fn len(&self) -> usize {
        match self {
            Body::Each(records) => records.len(),
            Body::Batch(_) => 1,
            Body::Table { table, .. } => table.rows(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of record `index`.
    pub fn offset(&self, index: usize) -> u64 {
        match self {
            Body::Each(records) => records[index].offset,
            Body::Batch(record) => record.offset,
            Body::Table { first_offset, .. } => first_offset + index as u64,
        }
    }

    /// What the record weighs in memory, about.
    pub fn bytes(&self, index: usize) -> usize {
        match self {
            Body::Each(records) => records[index].bytes(),
            Body::Batch(record) => record.bytes(),
            Body::Table { table, .. } => table.bytes() / table.rows().max(1),
        }
    }

    /// The record as it came, for the dead letters; of a columnar source, its row as JSON. A delete has none.
    pub fn raw(&self, index: usize) -> Option<Bytes> {
        match self {
            Body::Each(records) => records[index].payload.raw(),
            Body::Batch(record) => record.payload.raw(),
            Body::Table { table, .. } => Some(Bytes::from(table.row_as_json(index))),
        }
    }

    /// What came around the record in its message; of other sources nothing.
    pub fn envelope(&self, index: usize) -> Option<&Envelope> {
        match self {
            Body::Each(records) => records[index].envelope.as_deref(),
            Body::Batch(record) => record.envelope.as_deref(),
            Body::Table { .. } => None,
        }
    }

    /// Keeps the first `at` records and returns the others.
    pub fn split_off(&mut self, at: usize) -> Body {
        match self {
            Body::Each(records) => Body::Each(records.split_off(at)),
            Body::Batch(_) if at == 0 => std::mem::replace(self, Body::Each(Vec::new())),
            Body::Batch(_) => Body::Each(Vec::new()),
            Body::Table { first_offset, table } => {
                let tail = table.slice(at, table.rows() - at);
                *table = table.slice(0, at);
                Body::Table { first_offset: *first_offset + at as u64, table: tail }
            }
        }
    }
}

/// One record of a source that reads them one by one.
#[derive(Debug, Clone)]
pub struct Record {
    pub offset: u64,
    pub payload: Payload,
    /// `None` of a record that did not come in a message.
    pub envelope: Option<Box<Envelope>>,
}

impl Record {
    /// A record that did not come in a message.
    pub fn new(offset: u64, payload: Payload) -> Self {
        Record { offset, payload, envelope: None }
    }

    /// What it weighs in memory, about.
    pub fn bytes(&self) -> usize {
        self.payload.bytes() + self.envelope.as_ref().map_or(0, |envelope| envelope.bytes())
    }
}

/// What comes around a Kafka message's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    pub key: Option<Bytes>,
    /// In the order in which they came; a name may come twice.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970, as the message says.
    pub timestamp_ms: Option<i64>,
}

impl Envelope {
    /// Bytes of the key and the headers.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len));
        self.key.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }
}

/// A record's content as it came, not yet understood.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One JSON document.
    Json(Bytes),
    /// Plain text, to be UTF-8; its one field is called `text`.
    Text(Bytes),
    /// Any number of rows, as an Arrow IPC stream.
    Arrow(Bytes),
    /// A row of a CSV file; the header names its fields.
    Row { header: Arc<csv::StringRecord>, row: csv::ByteRecord },
    /// A null value: what has the message's key is deleted.
    Delete,
    /// Something that the source could not cut into a record (a truncated stream, a line over the limit).
    Unreadable { raw: Bytes, cause: String },
}

impl Payload {
    fn bytes(&self) -> usize {
        match self {
            Payload::Json(raw) | Payload::Text(raw) | Payload::Arrow(raw) | Payload::Unreadable { raw, .. } => {
                raw.len()
            }
            Payload::Row { row, .. } => row.as_slice().len(),
            Payload::Delete => 0,
        }
    }

    fn raw(&self) -> Option<Bytes> {
        match self {
            Payload::Json(raw) | Payload::Text(raw) | Payload::Arrow(raw) | Payload::Unreadable { raw, .. } => {
                Some(raw.clone())
            }
            Payload::Delete => None,
            Payload::Row { row, .. } => {
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
                let written = writer.write_byte_record(row).and_then(|()| Ok(writer.flush()?));
                debug_assert!(written.is_ok(), "writing a row to memory cannot fail");
                Some(Bytes::from(writer.into_inner().unwrap_or_default()))
            }
        }
    }
}

/// Strings end to end in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All strings end to end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Bytes of all strings together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Keeps the first `at` strings and returns the others.
    pub fn split_off(&mut self, at: usize) -> Strings {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let ends = self.ends.split_off(at);
        let text = self.text.split_off(start);
        Strings { text, ends: ends.into_iter().map(|end| end - start).collect() }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let mut strings = Strings::default();
        for value in values {
            strings.push(value.as_ref());
        }
        strings
    }
}

/// Token sequences end to end: ids with the model's special tokens, already truncated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    ends: Vec<usize>,
    truncated: Vec<u32>,
}

impl Tokens {
    /// Adds a sequence; `truncated` tokens more were cut off from it.
    pub fn push(&mut self, ids: &[u32], truncated: u32) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
        self.truncated.push(truncated);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn ids(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.ids[start..self.ends[index]]
    }

    /// How many tokens truncation cut off from sequence `index`.
    pub fn truncated(&self, index: usize) -> u32 {
        self.truncated[index]
    }

    /// Keeps the first `at` sequences and returns the others.
    pub fn split_off(&mut self, at: usize) -> Tokens {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let ends = self.ends.split_off(at);
        Tokens {
            ids: self.ids.split_off(start),
            ends: ends.into_iter().map(|end| end - start).collect(),
            truncated: self.truncated.split_off(at),
        }
    }
}

/// Why a record cannot become a vector, and where that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The record's index in its block.
    pub record: usize,
    pub stage: Stage,
    pub cause: String,
}

/// The stage that rejected a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Read,
    Extract,
    Tokenize,
    Encode,
    /// The sink cannot take the row: it is larger than a message of the topic may be.
    Publish,
}

impl Stage {
    /// In the order in which a record meets them.
    pub const ALL: [Stage; 5] = [Stage::Read, Stage::Extract, Stage::Tokenize, Stage::Encode, Stage::Publish];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Extract => "extract",
            Stage::Tokenize => "tokenize",
            Stage::Encode => "encode",
            Stage::Publish => "publish",
        }
    }
}

/// Rows made of consecutive records of one partition, and those records.
///
/// Invariant: `row_records` ascends, and `ids`, `hashes`, `tokens`, `kept` (and `texts` where kept) have one entry a row.
#[derive(Debug)]
pub struct Block {
    pub partition: Arc<Partition>,
    pub body: Body,
    /// Row → index of the record in `body` that it came from.
    pub row_records: Vec<usize>,
    pub ids: Strings,
    /// The rows' texts; `None` where no output column wants them.
    pub texts: Option<Strings>,
    /// SHA-256 of each row's text.
    pub hashes: Vec<[u8; 32]>,
    pub tokens: Tokens,
    pub kept: Columns,
    pub rejected: Vec<Rejection>,
    /// Records that are deletes, by their index in `body`, ascending.
    pub deletes: Vec<usize>,
    pub input_bytes_read: u64,
    pub permit: Permit,
    pub times: Times,
}

impl Block {
    pub fn records(&self) -> usize {
        self.body.len()
    }

    pub fn rows(&self) -> usize {
        self.row_records.len()
    }

    pub fn position(&self, record: usize) -> Position {
        Position { partition: self.partition.clone(), offset: self.body.offset(record) }
    }

    /// Keeps the first `at` records, with their rows and rejections, and returns the others.
    pub fn split_off(&mut self, at: usize) -> Block {
        debug_assert!(at <= self.records(), "a block is split inside");
        let row = self.row_records.partition_point(|&record| record < at);
        let rejection = self.rejected.partition_point(|rejection| rejection.record < at);
        let delete = self.deletes.partition_point(|&record| record < at);
        let tail_records = self.records() - at;
        let tail_bytes: usize = (at..self.records()).map(|record| self.body.bytes(record)).sum();
        Block {
            partition: self.partition.clone(),
            body: self.body.split_off(at),
            row_records: self.row_records.split_off(row).into_iter().map(|record| record - at).collect(),
            ids: self.ids.split_off(row),
            texts: self.texts.as_mut().map(|texts| texts.split_off(row)),
            hashes: self.hashes.split_off(row),
            tokens: self.tokens.split_off(row),
            kept: self.kept.split_off(row),
            rejected: self
                .rejected
                .split_off(rejection)
                .into_iter()
                .map(|rejection| Rejection { record: rejection.record - at, ..rejection })
                .collect(),
            deletes: self.deletes.split_off(delete).into_iter().map(|record| record - at).collect(),
            input_bytes_read: self.input_bytes_read,
            permit: self.permit.split(tail_records, tail_bytes),
            times: self.times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_split_where_asked() {
        let all = ["", "ab", "ü", "", "xyz"];
        for at in 0..=all.len() {
            let mut head: Strings = all.iter().collect();
            let tail = head.split_off(at);
            assert_eq!(head.iter().chain(tail.iter()).collect::<Vec<_>>(), all);
            assert_eq!(head.len(), at);
        }
    }

    #[test]
    fn tokens_split_where_asked() {
        let all: [&[u32]; 4] = [&[1], &[], &[2, 3, 4], &[5]];
        for at in 0..=all.len() {
            let mut head = Tokens::default();
            for (index, ids) in all.iter().enumerate() {
                head.push(ids, index as u32);
            }
            let tail = head.split_off(at);
            for (index, ids) in all.iter().enumerate() {
                let (part, place) = if index < at { (&head, index) } else { (&tail, index - at) };
                assert_eq!((part.ids(place), part.truncated(place)), (*ids, index as u32));
            }
        }
    }

    #[test]
    fn positions_of_files_read_as_an_editor_shows_them() {
        let position =
            Position { partition: Arc::new(Partition::File { ordinal: 0, path: "a.jsonl".into() }), offset: 16 };
        assert_eq!(position.to_string(), "a.jsonl:17");
    }
}

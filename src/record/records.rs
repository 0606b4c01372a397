//! Records as a source reads them, not yet understood.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Partition;
use crate::budget::Permit;
use crate::columnar::Table;

/// A run of consecutive records of one partition, with the bytes that they hold of the memory budget.
#[derive(Debug)]
pub struct Records {
    pub partition: Arc<Partition>,
    pub body: Body,
    /// Bytes of the whole input that are behind once these records are settled; progress bars show it.
    pub input_bytes_read: u64,
    pub permit: Permit,
    pub times: Timestamps,
}

/// When what happened to a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// The source had it, and asked for room.
    pub asked: Instant,
    /// It went on.
    pub read: Instant,
    /// Extracting it began.
    pub began: Instant,
    /// It was a block.
    pub prepared: Instant,
}

impl Timestamps {
    /// Of a run that goes on now, and was asked room for then.
    pub fn read(asked: Instant, read: Instant) -> Timestamps {
        Timestamps { asked, read, began: read, prepared: read }
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

//! Records as a source reads them, not yet parsed.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Partition;
use crate::budget::Permit;
use crate::columnar::Table;

/// Consecutive records of one partition, with their share of the memory budget.
#[derive(Debug)]
pub struct Records {
    /// The partition of all records.
    pub partition: Arc<Partition>,
    /// The records.
    pub body: Body,
    /// Bytes of the whole input up to the end of these records, as they lie on disk; progress bars show it.
    pub input_bytes_read: u64,
    /// The share of the memory budget that the records hold; dropping it returns the share.
    pub permit: Permit,
    /// When the records reached which stage.
    pub timestamps: Timestamps,
}

/// When consecutive records reached which stage; traces show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// The source had read the records and requested memory for them.
    pub requested_at: Instant,
    /// The source sent the records to the pipeline.
    pub read_at: Instant,
    /// Extraction of the records started.
    pub extract_started_at: Instant,
    /// The records had become a block.
    pub prepared_at: Instant,
}

impl Timestamps {
    /// The timestamps of records that were just sent to the pipeline.
    pub fn new(requested_at: Instant, read_at: Instant) -> Timestamps {
        Timestamps { requested_at, read_at, extract_started_at: read_at, prepared_at: read_at }
    }
}

/// The records themselves, in ascending order of offset.
#[derive(Debug, Clone)]
pub enum Body {
    /// Records that are read one by one: lines, CSV rows, messages.
    Each(Vec<Record>),
    /// One record with any number of rows: a message whose value is an Arrow IPC stream.
    Batch(Box<Record>),
    /// Records in columns: rows of a Parquet or Arrow file. Row `i` has offset `first_offset + i`.
    Table {
        /// The offset of the first row.
        first_offset: u64,
        /// The rows.
        table: Table,
    },
}

impl Body {
    /// The number of records.
    pub fn len(&self) -> usize {
        match self {
            Body::Each(records) => records.len(),
            Body::Batch(_) => 1,
            Body::Table { table, .. } => table.rows(),
        }
    }

    /// Whether there are no records.
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

    /// The approximate size of record `index` in memory, in bytes.
    pub fn bytes(&self, index: usize) -> usize {
        match self {
            Body::Each(records) => records[index].bytes(),
            Body::Batch(record) => record.bytes(),
            Body::Table { table, .. } => table.bytes() / table.rows().max(1),
        }
    }

    /// Record `index` as it was read, for the dead letters; a row of a table as JSON. `None` for a delete.
    pub fn raw(&self, index: usize) -> Option<Bytes> {
        match self {
            Body::Each(records) => records[index].payload.raw(),
            Body::Batch(record) => record.payload.raw(),
            Body::Table { table, .. } => Some(Bytes::from(table.row_as_json(index))),
        }
    }

    /// The envelope of record `index`; `None` if it did not come in a message.
    pub fn envelope(&self, index: usize) -> Option<&Envelope> {
        match self {
            Body::Each(records) => records[index].envelope.as_deref(),
            Body::Batch(record) => record.envelope.as_deref(),
            Body::Table { .. } => None,
        }
    }

    /// Keeps the first `at` records and returns the rest.
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
    /// The record's number in its partition.
    pub offset: u64,
    /// The record's content.
    pub payload: Payload,
    /// The key, headers and timestamp of its message; `None` if it did not come in a message.
    pub envelope: Option<Box<Envelope>>,
}

impl Record {
    /// A record that did not come in a message.
    pub fn new(offset: u64, payload: Payload) -> Self {
        Record { offset, payload, envelope: None }
    }

    /// The approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.payload.bytes() + self.envelope.as_ref().map_or(0, |envelope| envelope.bytes())
    }
}

/// A Kafka message without its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The message's key.
    pub key: Option<Bytes>,
    /// The headers in their order; a name may occur twice.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The message's timestamp, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Envelope {
    /// The size of key and headers, in bytes.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len));
        self.key.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }
}

/// The content of a record, not yet parsed.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One JSON document.
    Json(Bytes),
    /// Plain text, expected to be UTF-8; its only field is called `text`.
    Text(Bytes),
    /// Any number of rows, as an Arrow IPC stream.
    Arrow(Bytes),
    /// A row of a CSV file, and the header that names its fields.
    Row {
        /// The names of the fields.
        header: Arc<csv::StringRecord>,
        /// The values of the fields, as many as names.
        row: csv::ByteRecord,
    },
    /// A null value: the row with the message's key is deleted.
    Delete,
    /// Bytes that the source could not split into a record (a truncated stream, a line over the limit), and why.
    Unreadable {
        /// The first bytes.
        raw: Bytes,
        /// Why they are not a record.
        cause: String,
    },
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

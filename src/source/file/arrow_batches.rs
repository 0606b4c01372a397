//! The batches of an Arrow IPC stream or file.
//!
//! In: a [`Stream`]. Out: tables of rows, slices of the batches. Kept: one batch, as large as its writer made it. An
//! Arrow file is a stream between two magic numbers, followed by a footer, so both are read from front to back. That
//! works for pipes and compressed files, and of a truncated file it gives every whole batch before it gives an
//! unreadable record.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_footer;

use super::arrow_messages::{self, END, MARKER, StreamItem, ends_early};
use super::reader::{BODY_BYTES_MAX, BODY_RECORDS_MAX, Reader, guarded, unreadable};
use super::stream::Stream;
use crate::columnar::Table;
use crate::record::Body;
use crate::source::SourceError;

/// The magic number that a file begins with, padded to eight bytes, and ends with.
const MAGIC: &[u8] = b"ARROW1";
/// Maximum bytes after the last batch: the footer, which takes some tens of bytes per batch.
const FOOTER_BYTES_MAX: usize = 64 << 20;
/// How many bytes are read at once after the last batch.
const BLOCK_BYTES: usize = 64 << 10;

/// The rows of a whole IPC stream (or file) in memory, such as a message's value; compressed data is decompressed.
///
/// # Errors
/// If the bytes are not Arrow data or end early, if they hold no rows, or if their batches have different schemas.
pub(crate) fn table(bytes: bytes::Bytes) -> Result<Table, String> {
    let stream = Stream::new(Box::new(std::io::Cursor::new(bytes)), true).map_err(|error| error.to_string())?;
    let mut reader = ArrowReader::new(stream);
    reader.start()?;
    let mut whole = Vec::new();
    while !reader.ended {
        whole.extend(reader.next_batch()?);
    }
    let Some(first) = whole.first() else { return Err("contains no rows".into()) };
    let together = guarded(|| arrow::compute::concat_batches(first.schema_ref(), &whole));
    together.map(Table::new).map_err(|error| format!("its batches cannot be joined: {error}"))
}

/// Reads the batches of one input.
pub(crate) struct ArrowReader {
    stream: Stream,
    decoder: StreamDecoder,
    /// The parts of the current message (head, body) that the decoder has not consumed.
    unseen: VecDeque<Buffer>,
    /// Whether the input is an Arrow file, which ends with a footer, rather than a stream.
    is_file: bool,
    /// The current batch, and how many of its rows were handed on.
    batch: Option<(Table, usize)>,
    /// The offset of the next row.
    offset: u64,
    started: bool,
    /// Whether any message was read.
    any: bool,
    /// How many batches were read, empty ones included.
    batches: usize,
    ended: bool,
}

impl ArrowReader {
    pub(crate) fn new(stream: Stream) -> Self {
        ArrowReader {
            stream,
            decoder: StreamDecoder::new(),
            unseen: VecDeque::new(),
            is_file: false,
            batch: None,
            offset: 0,
            started: false,
            any: false,
            batches: 0,
            ended: false,
        }
    }

    /// Reads the magic number of a file, or checks the first bytes of a stream.
    fn start(&mut self) -> Result<(), String> {
        let head = self.stream.peek(8);
        if head.is_empty() {
            return Err("empty file; expected an Arrow file or stream (its writer did not finish it)".into());
        }
        self.is_file = head.starts_with(MAGIC);
        // Writers before 2019 begin a message with its length instead of the marker; it is below 2^24 in practice.
        if !self.is_file && !head.starts_with(&MARKER) && head.get(3) != Some(&0) {
            let head = head[..head.len().min(6)].escape_ascii();
            return Err(format!("begins with \"{head}\"; expected an Arrow file or stream"));
        }
        if self.is_file {
            self.stream.fill(&mut [0; 8]).map_err(|error| error.to_string())?;
            // Some writers pad the magic number further, for example to 64 bytes; no message begins with zeros.
            while self.stream.peek(8) == [0; 8] {
                self.stream.fill(&mut [0; 8]).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The next batch that has rows; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, String> {
        loop {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
            match arrow_messages::next(&mut self.stream)? {
                StreamItem::Message { head, body } => self.unseen = VecDeque::from([head, body]),
                // The decoder handles a message without a body when the next message begins.
                StreamItem::EndOfStream => {
                    self.unseen = VecDeque::from([Buffer::from(END)]);
                    let last = self.decode()?;
                    if self.is_file {
                        self.check_footer()?;
                        self.ended = true;
                    }
                    // Another stream may follow, as in the output of `cat`.
                    self.decoder = StreamDecoder::new();
                    if last.is_some() || self.ended {
                        return Ok(last);
                    }
                }
                StreamItem::EndOfInput if self.is_file || !self.any => return Err(ends_early()),
                StreamItem::EndOfInput => {
                    self.ended = true;
                    self.unseen = VecDeque::from([Buffer::from(END)]);
                    return self.decode();
                }
            }
        }
    }

    /// Decodes until the next batch that has rows; `None` once the current message is consumed.
    fn decode(&mut self) -> Result<Option<RecordBatch>, String> {
        while let Some(bytes) = self.unseen.front_mut() {
            if bytes.is_empty() {
                self.unseen.pop_front();
                continue;
            }
            self.any = true;
            let decoded = guarded(|| self.decoder.decode(bytes));
            if let Some(batch) = decoded.map_err(|error| format!("a batch cannot be read: {error}"))? {
                self.batches += 1;
                if batch.num_rows() > 0 {
                    return Ok(Some(batch));
                }
            }
        }
        Ok(None)
    }

    /// Reads to the end of the file and checks that it has a footer, which lists as many batches as were read:
    /// otherwise the file is truncated.
    fn check_footer(&mut self) -> Result<(), String> {
        let mut rest = Vec::new();
        loop {
            let start = rest.len();
            rest.resize(start + BLOCK_BYTES, 0);
            let filled = self.stream.fill(&mut rest[start..]).map_err(|error| error.to_string())?;
            rest.truncate(start + filled);
            if filled == 0 {
                break;
            }
            if rest.len() > FOOTER_BYTES_MAX {
                return Err(format!(
                    "footer: found more than {FOOTER_BYTES_MAX} bytes after the end mark (the file may be corrupt)"
                ));
            }
        }
        let before = rest.strip_suffix(MAGIC).ok_or_else(ends_early)?;
        let footer = before.split_last_chunk::<4>().and_then(|(footer, length)| {
            let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
            root_as_footer(footer.get(footer.len().checked_sub(length)?..)?).ok()
        });
        let listed = footer.map(|footer| footer.recordBatches().map_or(0, |batches| batches.len()));
        match listed {
            Some(listed) if listed == self.batches => Ok(()),
            Some(listed) => Err(format!(
                "footer: found {listed} batches; expected {}, as before the end mark (the file is corrupt; write it again)",
                self.batches
            )),
            None => Err("footer: cannot be read (the file is corrupt; write it again)".into()),
        }
    }

    /// The next rows of the current batch.
    fn next_slice(&mut self) -> Option<Body> {
        let (table, done) = self.batch.as_mut()?;
        let average = (table.bytes() / table.rows().max(1)).max(1);
        let rows_max = (BODY_BYTES_MAX / average).clamp(1, BODY_RECORDS_MAX);
        let rows = rows_max.min(table.rows() - *done);
        let slice = table.slice(*done, rows);
        *done += rows;
        if *done == table.rows() {
            self.batch = None;
        }
        let first_offset = self.offset;
        self.offset += rows as u64;
        Some(Body::Table { first_offset, table: slice })
    }
}

impl Reader for ArrowReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if let Some(body) = self.next_slice() {
            return Ok(Some(body));
        }
        if self.ended {
            return Ok(None);
        }
        let start = if std::mem::replace(&mut self.started, true) { Ok(()) } else { self.start() };
        let found = start.and_then(|()| self.next_batch());
        self.ended |= !matches!(found, Ok(Some(_)));
        Ok(match found {
            Ok(Some(batch)) => {
                self.batch = Some((Table::new(batch), 0));
                self.next_slice()
            }
            Ok(None) => None,
            Err(cause) => Some(Body::Each(vec![unreadable(self.offset, &[], cause)])),
        })
    }

    fn input_bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }
}

//! Batches of an Arrow IPC stream or file.
//!
//! A file is a stream between two magic words with a footer behind it, so both are read from front to back: from pipes,
//! decompressed, and cut off in the middle, where all whole batches before the cut are still read. What is in memory is
//! one batch as its writer made it; runs of rows are slices of it.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_footer;

use super::arrow_messages::{self, END, MARKER, Next, cut_off};
use super::reader::{RUN_BYTES_MAX, RUN_RECORDS_MAX, Reader, guarded, unreadable};
use super::stream::Stream;
use crate::columnar::Table;
use crate::record::Body;
use crate::source::SourceError;

/// What a file begins with, padded to eight bytes, and ends with.
const MAGIC: &[u8] = b"ARROW1";
/// Most bytes behind the last batch: the footer, which takes some tens of bytes a batch.
const FOOTER_BYTES_MAX: usize = 64 << 20;
/// How much is read at once behind the last batch.
const BLOCK_BYTES: usize = 64 << 10;

/// The rows of a whole IPC stream (or file) in memory, such as a message's value. Compressed ones are decompressed.
///
/// # Errors
/// If it is no Arrow data, ends early, or its batches do not fit together.
pub fn table(bytes: bytes::Bytes) -> Result<Table, String> {
    let stream = Stream::new(Box::new(std::io::Cursor::new(bytes)), true).map_err(|error| error.to_string())?;
    let mut batches = Batches::new(stream);
    batches.start()?;
    let mut whole = Vec::new();
    while !batches.ended {
        whole.extend(batches.next_batch()?);
    }
    let Some(first) = whole.first() else { return Err("holds no row".into()) };
    let together = guarded(|| arrow::compute::concat_batches(first.schema_ref(), &whole));
    together.map(Table::new).map_err(|error| format!("its batches do not fit together: {error}"))
}

/// Reads batches.
pub struct Batches {
    stream: Stream,
    decoder: StreamDecoder,
    /// Bytes of the message at hand that the decoder has not seen: its head, its body.
    unseen: VecDeque<Buffer>,
    /// An Arrow file, which ends with a footer, rather than a stream.
    file: bool,
    /// A batch, and how many of its rows were handed on.
    batch: Option<(Table, usize)>,
    offset: u64,
    started: bool,
    /// Whether there was any message.
    any: bool,
    /// Messages that hold a batch.
    batches: usize,
    ended: bool,
}

impl Batches {
    pub fn new(stream: Stream) -> Self {
        Batches {
            stream,
            decoder: StreamDecoder::new(),
            unseen: VecDeque::new(),
            file: false,
            batch: None,
            offset: 0,
            started: false,
            any: false,
            batches: 0,
            ended: false,
        }
    }

    /// What the first bytes say.
    fn start(&mut self) -> Result<(), String> {
        let head = self.stream.peek(8);
        if head.is_empty() {
            return Err("is empty, which no Arrow file is; it was not written to its end".into());
        }
        self.file = head.starts_with(MAGIC);
        // Writers before 2019 begin a message with its length instead, which is below 2^24 in practice.
        if !self.file && !head.starts_with(&MARKER) && head.get(3) != Some(&0) {
            let head = head[..head.len().min(6)].escape_ascii();
            return Err(format!("begins with \"{head}\", which is neither an Arrow file nor an Arrow stream"));
        }
        if self.file {
            self.stream.fill(&mut [0; 8]).map_err(|error| error.to_string())?;
            // Some writers pad the magic word further, to 64 bytes for one; no message begins with zeros.
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
                Next::Message { head, body } => self.unseen = VecDeque::from([head, body]),
                // The decoder reads a message without a body when the next begins.
                Next::EndOfStream => {
                    self.unseen = VecDeque::from([Buffer::from(END)]);
                    let last = self.decode()?;
                    if self.file {
                        self.footer()?;
                        self.ended = true;
                    }
                    // Streams may stand one after the other, as `cat` leaves them.
                    self.decoder = StreamDecoder::new();
                    if last.is_some() || self.ended {
                        return Ok(last);
                    }
                }
                Next::EndOfInput if self.file || !self.any => return Err(cut_off()),
                Next::EndOfInput => {
                    self.ended = true;
                    self.unseen = VecDeque::from([Buffer::from(END)]);
                    return self.decode();
                }
            }
        }
    }

    /// Decodes until the next batch that has rows; `None` once the message at hand is seen.
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

    /// Reads to the file's end, which says that it was written to its end, and how many batches there are.
    fn footer(&mut self) -> Result<(), String> {
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
                    "goes on for more than {FOOTER_BYTES_MAX} bytes behind its end mark; is it broken?"
                ));
            }
        }
        let before = rest.strip_suffix(MAGIC).ok_or_else(cut_off)?;
        let footer = before.split_last_chunk::<4>().and_then(|(footer, length)| {
            let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
            root_as_footer(footer.get(footer.len().checked_sub(length)?..)?).ok()
        });
        let named = footer.map(|footer| footer.recordBatches().map_or(0, |batches| batches.len()));
        match named {
            Some(named) if named == self.batches => Ok(()),
            Some(named) => Err(format!(
                "its footer names {named} batches, but {} stand before its end mark: it is broken; write it again",
                self.batches
            )),
            None => Err("its footer cannot be read: it is broken; write it again".into()),
        }
    }

    /// The next rows of the batch at hand, as a run.
    fn slice(&mut self) -> Option<Body> {
        let (table, done) = self.batch.as_mut()?;
        let average = (table.bytes() / table.rows().max(1)).max(1);
        let most = (RUN_BYTES_MAX / average).clamp(1, RUN_RECORDS_MAX);
        let rows = most.min(table.rows() - *done);
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

impl Reader for Batches {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if let Some(body) = self.slice() {
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
                self.slice()
            }
            Ok(None) => None,
            Err(cause) => Some(Body::Each(vec![unreadable(self.offset, &[], cause)])),
        })
    }

    fn input_bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }
}

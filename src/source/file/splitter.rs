//! Splits a stream into records without copying them; the base of the readers of lines, CSV rows and JSON values.
//!
//! In: a [`Stream`], and a [`Boundary`] that finds where a record ends. Out: records that share the blocks that they
//! were read in. Kept: one block, or one record of at most `record_bytes_max`. A longer record is handed on once, as an
//! unreadable one, and the rest of it is skipped. When the stream breaks, the bytes left over are handed on as one
//! unreadable record.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::reader::{BODY_BYTES_MAX, BODY_RECORDS_MAX, unreadable};
use super::stream::Stream;
use crate::record::{Body, Payload, Record};

/// How many bytes are decompressed at once: a few hundred typical records.
const BLOCK_BYTES: usize = 256 << 10;
/// Size of the first block. It is small because a record keeps its whole block in memory, and many files are small.
const FIRST_BLOCK_BYTES: usize = 4 << 10;

/// A record of the maximum length may be followed by a line end.
const LINE_END_BYTES_MAX: usize = 2;

/// Finds where records end. It sees every byte once, in order, in pieces.
pub(crate) trait Boundary: Send {
    /// The name of a record in an error message.
    const NAME: &'static str;

    /// The end of the current record in `more` (bytes not seen before), which is where the next record begins. The
    /// state then is that of the next record.
    fn find(&mut self, more: &[u8]) -> Option<usize>;

    /// By how much the offset grows from the record whose end was found last to the next.
    fn offset_step(&self) -> u64;

    /// The record within its bytes, without line end and separators. Empty for a blank record.
    fn trim(&self, piece: &[u8]) -> Range<usize>;

    /// Why the last record, whose end was not found, is incomplete; `None` if the end of input completes it.
    fn unfinished(&self) -> Option<String>;

    /// What a user can do about a record that is too long.
    fn advice(&self) -> &'static str;
}

/// Splits a [`Stream`] at a [`Boundary`].
pub(crate) struct RecordSplitter<B> {
    stream: Stream,
    pub boundary: B,
    buffer: BytesMut,
    /// How many bytes of the buffer the boundary has seen.
    seen: usize,
    /// The end of the first record in the buffer, once found.
    found: Option<usize>,
    /// The offset of the first record in the buffer.
    offset: u64,
    record_bytes_max: usize,
    /// The size of the next block.
    block_bytes: usize,
    /// Whether the current record was too long and its rest is being skipped.
    skipping: bool,
    started: bool,
    ended: bool,
}

/// The bytes of one record, or an unreadable record.
pub(crate) enum SplitRecord {
    Whole { offset: u64, raw: Bytes },
    Unreadable(Record),
}

impl<B: Boundary> RecordSplitter<B> {
    pub(crate) fn new(stream: Stream, boundary: B, record_bytes_max: usize) -> Self {
        RecordSplitter {
            stream,
            boundary,
            buffer: BytesMut::new(),
            seen: 0,
            found: None,
            offset: 0,
            record_bytes_max,
            block_bytes: FIRST_BLOCK_BYTES,
            skipping: false,
            started: false,
            ended: false,
        }
    }

    /// Bytes of the input read so far, as they lie on disk.
    pub(crate) fn input_bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }

    /// Stops reading: there will be no more records.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next records, or `None` at the end. `payload` parses the bytes of a record and returns `None` for a blank
    /// one, an error for an invalid one.
    pub(crate) fn next_body(
        &mut self,
        mut payload: impl FnMut(Bytes) -> Option<Result<Payload, String>>,
    ) -> Option<Body> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < BODY_RECORDS_MAX && bytes < BODY_BYTES_MAX {
            // The next record of a live input may be hours away; the records read so far are handed on.
            if self.stream.is_live() && !records.is_empty() && !self.has_whole_record() {
                break;
            }
            match self.next() {
                None => break,
                Some(SplitRecord::Unreadable(record)) => records.push(record),
                Some(SplitRecord::Whole { offset, raw }) => {
                    bytes += raw.len();
                    match payload(raw.clone()) {
                        None => {}
                        Some(Ok(payload)) => records.push(Record::new(offset, payload)),
                        Some(Err(cause)) => records.push(unreadable(offset, &raw, cause)),
                    }
                }
            }
        }
        // A body without records, because all were blank, is not the end.
        (!records.is_empty() || !self.ended).then_some(Body::Each(records))
    }

    /// Whether the buffer holds a whole record.
    fn has_whole_record(&mut self) -> bool {
        if self.found.is_none() {
            self.found = self.boundary.find(&self.buffer[self.seen..]).map(|end| self.seen + end);
            self.seen = self.found.unwrap_or(self.buffer.len());
        }
        self.found.is_some()
    }

    /// The next record, which may be blank.
    pub(crate) fn next(&mut self) -> Option<SplitRecord> {
        while !self.ended {
            if self.has_whole_record() {
                let end = self.found.take().unwrap_or_default();
                self.seen = 0;
                let piece = self.buffer.split_to(end).freeze();
                let offset = self.offset;
                self.offset += self.boundary.offset_step();
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Some(self.whole(offset, piece));
            }
            if self.buffer.len() > self.record_bytes_max.saturating_add(LINE_END_BYTES_MAX) || self.skipping {
                let head = self.take_all();
                if !std::mem::replace(&mut self.skipping, true) {
                    return Some(self.too_long(self.offset, &head));
                }
            }
            match self.fill() {
                Ok(0) => return self.finish(),
                Ok(_) => {}
                Err(cause) => {
                    self.ended = true;
                    let rest = self.take_all();
                    return Some(SplitRecord::Unreadable(unreadable(self.offset, &rest, cause)));
                }
            }
        }
        None
    }

    /// Takes all bytes of the buffer, in which no end of a record was found.
    fn take_all(&mut self) -> Bytes {
        self.seen = 0;
        self.buffer.split().freeze()
    }

    fn whole(&self, offset: u64, piece: Bytes) -> SplitRecord {
        let raw = piece.slice(self.boundary.trim(&piece));
        if raw.len() > self.record_bytes_max { self.too_long(offset, &raw) } else { SplitRecord::Whole { offset, raw } }
    }

    fn too_long(&self, offset: u64, raw: &[u8]) -> SplitRecord {
        let (name, max, advice) = (B::NAME, self.record_bytes_max, self.boundary.advice());
        let cause = format!("the {name} is too long; expected at most {max} bytes ({advice})");
        SplitRecord::Unreadable(unreadable(offset, raw, cause))
    }

    /// The record that the end of the input ends, if any.
    fn finish(&mut self) -> Option<SplitRecord> {
        self.ended = true;
        let rest = self.take_all();
        match self.boundary.unfinished() {
            // A record that was too long has been handed on already.
            _ if self.skipping => None,
            Some(cause) => Some(SplitRecord::Unreadable(unreadable(self.offset, &rest, cause))),
            None if rest.is_empty() => None,
            None => Some(self.whole(self.offset, rest)),
        }
    }

    /// Reads the next block; 0 bytes at the end of the input.
    fn fill(&mut self) -> Result<usize, String> {
        if !std::mem::replace(&mut self.started, true) {
            let mark = byte_order_mark(self.stream.peek(3))?;
            if mark > 0 {
                self.stream.fill(&mut [0; 3][..mark]).map_err(|error| error.to_string())?;
            }
        }
        let start = self.buffer.len();
        // The block is zeroed before it is read into, which costs a hundredth of what splitting it does.
        self.buffer.resize(start + self.block_bytes, 0);
        self.block_bytes = (self.block_bytes * 2).min(BLOCK_BYTES);
        let filled = self.stream.fill(&mut self.buffer[start..]);
        self.buffer.truncate(start + *filled.as_ref().unwrap_or(&0));
        filled.map_err(|error| error.to_string())
    }
}

/// The length of the UTF-8 byte order mark at the start of a text: 3 bytes or none.
///
/// # Errors
/// If the text begins with the byte order mark of UTF-16.
pub(crate) fn byte_order_mark(head: &[u8]) -> Result<usize, String> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err(
            "found a UTF-16 byte order mark; expected UTF-8 (convert the file: iconv -f UTF-16 -t UTF-8 FILE)".into()
        );
    }
    Ok(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 })
}

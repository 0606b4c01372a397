//! Cuts a stream into records without copying them: what lines, CSV rows and JSON values have in common.
//!
//! In: a [`Stream`], and a [`Boundary`] that finds where a record ends. Out: runs of records that share the blocks that
//! they were read in. Kept: one block, or one record of at most `record_bytes_max`. A longer record is handed on as
//! unreadable once and the rest of it is skipped as it is read; so is what is left when the stream breaks.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::reader::{RUN_BYTES_MAX, RUN_RECORDS_MAX, unreadable};
use super::stream::Stream;
use crate::record::{Body, Payload, Record};

/// How much is decompressed at once: a few hundred usual records.
const BLOCK_BYTES: usize = 256 << 10;
/// The first block: records hold on to the whole block that they lie in, and many files are small.
const FIRST_BLOCK_BYTES: usize = 4 << 10;

/// A line end may stand behind a record that is as long as allowed.
const LINE_END_BYTES_MAX: usize = 2;

/// Where records end. It sees every byte once, in order, in pieces.
pub trait Boundary: Send {
    /// What a record is called in an error.
    const NAME: &'static str;

    /// The end of the record in `more`, bytes not seen before: where the next one begins. It then forgets that record.
    fn find(&mut self, more: &[u8]) -> Option<usize>;

    /// How far offsets move over the record whose end was found last.
    fn steps(&self) -> u64;

    /// The record itself in its bytes: without a line end or separators. Empty if there is none.
    fn trim(&self, piece: &[u8]) -> Range<usize>;

    /// What is wrong with a last record whose end was not found.
    fn unfinished(&self) -> Option<String>;

    /// What to look for if a record is too long.
    fn advice(&self) -> &'static str;
}

/// A stream being cut.
pub struct Cutter<B> {
    stream: Stream,
    pub boundary: B,
    buffer: BytesMut,
    /// Bytes of the buffer that the boundary has seen.
    seen: usize,
    /// The end of the first record in the buffer, once it is found.
    found: Option<usize>,
    /// The offset of the first record in the buffer.
    offset: u64,
    record_bytes_max: usize,
    /// The next block's size.
    block_bytes: usize,
    /// Inside a record that was too long.
    skipping: bool,
    started: bool,
    ended: bool,
}

/// One record, or what could not be cut into one.
pub enum Cut {
    Whole { offset: u64, raw: Bytes },
    Unreadable(Record),
}

impl<B: Boundary> Cutter<B> {
    pub fn new(stream: Stream, boundary: B, record_bytes_max: usize) -> Self {
        Cutter {
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

    pub fn input_bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }

    /// Reads no more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next run of records. `payload` makes a record of its bytes: none of a blank one, an error of one that it
    /// cannot read.
    pub fn run(&mut self, mut payload: impl FnMut(Bytes) -> Option<Result<Payload, String>>) -> Option<Body> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < RUN_RECORDS_MAX && bytes < RUN_BYTES_MAX {
            // A live input may let the next record wait for hours; what is there goes on.
            if self.stream.is_live() && !records.is_empty() && !self.look() {
                break;
            }
            match self.next() {
                None => break,
                Some(Cut::Unreadable(record)) => records.push(record),
                Some(Cut::Whole { offset, raw }) => {
                    bytes += raw.len();
                    match payload(raw.clone()) {
                        None => {}
                        Some(Ok(payload)) => records.push(Record::new(offset, payload)),
                        Some(Err(cause)) => records.push(unreadable(offset, &raw, cause)),
                    }
                }
            }
        }
        // A run of nothing but blank lines is not the end.
        (!records.is_empty() || !self.ended).then_some(Body::Each(records))
    }

    /// Whether the buffer holds a whole record.
    fn look(&mut self) -> bool {
        if self.found.is_none() {
            self.found = self.boundary.find(&self.buffer[self.seen..]).map(|end| self.seen + end);
            self.seen = self.found.unwrap_or(self.buffer.len());
        }
        self.found.is_some()
    }

    /// The next record, blank ones too.
    pub fn next(&mut self) -> Option<Cut> {
        while !self.ended {
            if self.look() {
                let end = self.found.take().unwrap_or_default();
                self.seen = 0;
                let piece = self.buffer.split_to(end).freeze();
                let offset = self.offset;
                self.offset += self.boundary.steps();
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
                    return Some(Cut::Unreadable(unreadable(self.offset, &rest, cause)));
                }
            }
        }
        None
    }

    /// Empties the buffer, in which no record's end was found.
    fn take_all(&mut self) -> Bytes {
        self.seen = 0;
        self.buffer.split().freeze()
    }

    fn whole(&self, offset: u64, piece: Bytes) -> Cut {
        let raw = piece.slice(self.boundary.trim(&piece));
        if raw.len() > self.record_bytes_max { self.too_long(offset, &raw) } else { Cut::Whole { offset, raw } }
    }

    fn too_long(&self, offset: u64, raw: &[u8]) -> Cut {
        let (name, max, advice) = (B::NAME, self.record_bytes_max, self.boundary.advice());
        let cause = format!("a {name} longer than record_bytes_max, which is {max} bytes; {advice}");
        Cut::Unreadable(unreadable(offset, raw, cause))
    }

    /// What is left at the end of the input.
    fn finish(&mut self) -> Option<Cut> {
        self.ended = true;
        let rest = self.take_all();
        match self.boundary.unfinished() {
            // Of a record that was too long, it was said already.
            _ if self.skipping => None,
            Some(cause) => Some(Cut::Unreadable(unreadable(self.offset, &rest, cause))),
            None if rest.is_empty() => None,
            None => Some(self.whole(self.offset, rest)),
        }
    }

    fn fill(&mut self) -> Result<usize, String> {
        if !std::mem::replace(&mut self.started, true) {
            let mark = byte_order_mark(self.stream.peek(3))?;
            if mark > 0 {
                self.stream.fill(&mut [0; 3][..mark]).map_err(|error| error.to_string())?;
            }
        }
        let start = self.buffer.len();
        // The block is zeroed before it is read into, which costs a hundredth of what cutting it does.
        self.buffer.resize(start + self.block_bytes, 0);
        self.block_bytes = (self.block_bytes * 2).min(BLOCK_BYTES);
        let filled = self.stream.fill(&mut self.buffer[start..]);
        self.buffer.truncate(start + *filled.as_ref().unwrap_or(&0));
        filled.map_err(|error| error.to_string())
    }
}

/// How many bytes at the start of a text are a mark rather than text.
///
/// # Errors
/// If they say that it is UTF-16.
pub fn byte_order_mark(head: &[u8]) -> Result<usize, String> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err("is UTF-16, as its first two bytes say; convert it: iconv -f UTF-16 -t UTF-8 FILE".into());
    }
    Ok(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 })
}

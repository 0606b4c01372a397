//! Batches of an Arrow IPC stream or file.
//!
//! A file is a stream between two magic words with a footer behind it, so both are read from front to back: from pipes,
//! decompressed, and cut off in the middle, where all whole batches before the cut are still read. What is in memory is
//! one batch as its writer made it; runs of rows are slices of it.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;

use super::stream::Stream;
use super::{Body, RUN_BYTES_MAX, RUN_RECORDS_MAX, Reader, SourceError, guarded, unreadable};
use crate::columnar::Table;

/// What a file begins with, padded to eight bytes, and ends with.
const MAGIC: &[u8] = b"ARROW1";
/// What every message begins with.
const MESSAGE: &[u8] = b"\xff\xff\xff\xff";
/// How much is read at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Reads batches.
pub struct Batches {
    stream: Stream,
    decoder: StreamDecoder,
    block: Buffer,
    /// An Arrow file, which ends with a footer, rather than a stream.
    file: bool,
    /// A batch, and how many of its rows were handed on.
    batch: Option<(Table, usize)>,
    offset: u64,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Start,
    Batches,
    End,
}

impl Batches {
    pub fn new(stream: Stream) -> Self {
        Batches {
            stream,
            decoder: StreamDecoder::new(),
            block: Buffer::from_vec(Vec::<u8>::new()),
            file: false,
            batch: None,
            offset: 0,
            state: State::Start,
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
        if !self.file && !head.starts_with(MESSAGE) && head.get(3) != Some(&0) {
            let head = head[..head.len().min(6)].escape_ascii();
            return Err(format!("begins with \"{head}\", which is neither an Arrow file nor an Arrow stream"));
        }
        if self.file {
            self.stream.fill(&mut [0; 8]).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The next batch that has rows; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, String> {
        loop {
            while !self.block.is_empty() {
                match guarded(|| self.decoder.decode(&mut self.block)) {
                    Ok(Some(batch)) if batch.num_rows() > 0 => return Ok(Some(batch)),
                    Ok(_) => {}
                    // Between messages nothing can be wrong but that the stream has ended and more follows.
                    Err(_) if self.decoder.finish().is_ok() => {
                        if self.file {
                            return self.footer().map(|()| None);
                        }
                        // Streams one after the other, as `cat` leaves them.
                        self.decoder = StreamDecoder::new();
                    }
                    Err(error) => return Err(format!("a batch cannot be read: {error}")),
                }
            }
            let mut block = vec![0; BLOCK_BYTES];
            let filled = self.stream.fill(&mut block).map_err(|error| error.to_string())?;
            block.truncate(filled);
            self.block = Buffer::from_vec(block);
            if filled == 0 {
                let whole = !self.file && self.decoder.finish().is_ok() && self.decoder.schema().is_some();
                return if whole { Ok(None) } else { Err(cut_off()) };
            }
        }
    }

    /// Reads to the file's end, which says that it was written to its end.
    fn footer(&mut self) -> Result<(), String> {
        let mut tail = self.block.as_slice().to_vec();
        loop {
            let keep = tail.len().saturating_sub(MAGIC.len());
            tail.drain(..keep);
            let start = tail.len();
            tail.resize(start + BLOCK_BYTES, 0);
            let filled = self.stream.fill(&mut tail[start..]).map_err(|error| error.to_string())?;
            tail.truncate(start + filled);
            if filled == 0 {
                return if tail.ends_with(MAGIC) { Ok(()) } else { Err(cut_off()) };
            }
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

fn cut_off() -> String {
    "the Arrow data ends early: the file is cut off; fetch or write it again".into()
}

impl Reader for Batches {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if let Some(body) = self.slice() {
            return Ok(Some(body));
        }
        let found = match self.state {
            State::End => return Ok(None),
            State::Start => self.start().and_then(|()| self.next_batch()),
            State::Batches => self.next_batch(),
        };
        self.state = if matches!(found, Ok(Some(_))) { State::Batches } else { State::End };
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

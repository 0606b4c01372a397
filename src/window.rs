//! The window, the unit of delivery: consecutive records of each source partition that it contains.
//!
//! In: blocks in source order. Out: windows, which end between two records. Kept: the open window. Inside a window rows
//! are sorted, batched and encoded in any order. A window is published whole, with its rows back in source order, and
//! only then are its positions committed. The limits count tokens, records and bytes only (unless windows also close by
//! age), not how the source happened to group its records, so the same input gives the same windows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Block;

/// `window:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Maximum tokens of a window: enough to sort texts by length, few enough that a window takes about a second on a
    /// CPU. A longer text has a window of its own.
    pub tokens: usize,
    /// Maximum records of a window.
    pub records: usize,
    /// Maximum bytes of a window's records.
    pub bytes: usize,
    /// Maximum age of a window of a live source (standard input to standard output), in milliseconds; at this age it is
    /// closed, full or not.
    pub linger_ms: u64,
    /// Maximum bytes in flight between source and sink (records, their tokens and vectors), besides one open window.
    /// This limits the memory of a run.
    pub in_flight_bytes: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        WindowConfig {
            tokens: 16_384,
            records: 2_048,
            bytes: 8 * 1024 * 1024,
            linger_ms: 50,
            in_flight_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Why a window was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowClosed {
    /// It reached its limit of tokens.
    Tokens,
    /// It reached its limit of records.
    Records,
    /// It reached its limit of bytes.
    Bytes,
    /// It reached its maximum age.
    Linger,
    /// The source ended, or the pipeline is draining.
    End,
}

impl WindowClosed {
    /// All reasons.
    pub const ALL: [WindowClosed; 5] =
        [WindowClosed::Tokens, WindowClosed::Records, WindowClosed::Bytes, WindowClosed::Linger, WindowClosed::End];

    /// The reason's name, as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            WindowClosed::Tokens => "tokens",
            WindowClosed::Records => "records",
            WindowClosed::Bytes => "bytes",
            WindowClosed::Linger => "linger",
            WindowClosed::End => "end",
        }
    }
}

/// Records that are published together.
#[derive(Debug)]
pub struct Window {
    /// Windows are numbered from 0 in the order in which they were read, and are delivered in that order.
    pub number: u64,
    /// The records and rows, in source order.
    pub blocks: Vec<Block>,
    /// Why the window was closed.
    pub closed: WindowClosed,
    /// When the window got its first record.
    pub opened: Instant,
}

impl Window {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(Block::rows).sum()
    }

    /// The number of records.
    pub fn records(&self) -> usize {
        self.blocks.iter().map(Block::records).sum()
    }

    /// All rows in source order: the block of each, and its index in that block.
    pub fn block_rows(&self) -> impl Iterator<Item = (&Block, usize)> {
        self.blocks.iter().flat_map(|block| (0..block.rows()).map(move |row| (block, row)))
    }

    /// Bytes of the whole input up to the end of this window, as they lie on disk.
    pub fn input_bytes_read(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.input_bytes_read)
    }
}

/// Groups blocks into windows, and splits a block where a window ends. Pure: the time is an argument.
#[derive(Debug)]
pub(crate) struct WindowBuilder {
    config: WindowConfig,
    /// `None` if windows do not close by age.
    linger: Option<Duration>,
    next_number: u64,
    open: OpenWindow,
    ready: VecDeque<Window>,
}

/// The window that gets the next records.
#[derive(Debug, Default)]
struct OpenWindow {
    blocks: Vec<Block>,
    tokens: usize,
    records: usize,
    bytes: usize,
    /// When it got its first record; `None` if it has none.
    opened: Option<Instant>,
}

impl WindowBuilder {
    /// `live` windows also close by age. Others do not, since their output would then depend on timing.
    pub(crate) fn new(config: WindowConfig, live: bool) -> Self {
        let linger = live.then(|| Duration::from_millis(config.linger_ms));
        WindowBuilder { config, linger, next_number: 0, open: OpenWindow::default(), ready: VecDeque::new() }
    }

    /// Changes the limits of the open and all later windows. `linger` has no effect unless windows close by age.
    pub(crate) fn tune(&mut self, tokens: usize, linger: Duration) {
        self.config.tokens = tokens;
        if self.linger.is_some() {
            self.linger = Some(linger);
        }
    }

    /// Adds the next block of the source; closes windows that are full.
    pub(crate) fn push(&mut self, mut block: Block, now: Instant) {
        while let Some((at, closed)) = self.first_over_limit(&block) {
            let tail = block.split_off(at);
            if at > 0 {
                self.add(block, now);
            }
            self.close(closed);
            block = tail;
        }
        if block.records() > 0 {
            self.add(block, now);
        }
        // A full window is closed immediately. Waiting for the next record to show that the window is full could take
        // long, or even deadlock: that record may be waiting for this window's memory.
        if let Some(closed) = self.full_by(self.open.tokens, self.open.records, self.open.bytes) {
            self.close(closed);
        }
    }

    /// The next closed window. Closes the open window first if it has reached its maximum age at `now`.
    pub(crate) fn next_ready(&mut self, now: Instant) -> Option<Window> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.close(WindowClosed::Linger);
        }
        self.ready.pop_front()
    }

    /// When the open window reaches its maximum age.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.open.opened? + self.linger?)
    }

    /// Closes the open window, at the end of input.
    pub(crate) fn finish(&mut self) {
        self.close(WindowClosed::End);
    }

    /// The index of the first record of `block` that would exceed a limit of the open window, and which limit. A record
    /// that is too large for any window is added to an empty one.
    fn first_over_limit(&self, block: &Block) -> Option<(usize, WindowClosed)> {
        let OpenWindow { mut tokens, mut records, mut bytes, .. } = self.open;
        let mut row = 0;
        for record in 0..block.records() {
            let mut record_tokens = 0;
            while row < block.rows() && block.row_records[row] == record {
                record_tokens += block.tokens.ids(row).len();
                row += 1;
            }
            let record_bytes = block.body.bytes(record);
            let closed = if records == 0 {
                None
            } else if tokens + record_tokens > self.config.tokens {
                Some(WindowClosed::Tokens)
            } else if bytes + record_bytes > self.config.bytes {
                Some(WindowClosed::Bytes)
            } else {
                self.full_by(tokens, records, bytes)
            };
            if let Some(closed) = closed {
                return Some((record, closed));
            }
            (tokens, records, bytes) = (tokens + record_tokens, records + 1, bytes + record_bytes);
        }
        None
    }

    /// The limit that a window of this size has reached, or `None`. A full window takes not even a record without text.
    fn full_by(&self, tokens: usize, records: usize, bytes: usize) -> Option<WindowClosed> {
        if records >= self.config.records {
            Some(WindowClosed::Records)
        } else if tokens >= self.config.tokens {
            Some(WindowClosed::Tokens)
        } else if bytes >= self.config.bytes {
            Some(WindowClosed::Bytes)
        } else {
            None
        }
    }

    fn add(&mut self, block: Block, now: Instant) {
        self.open.opened.get_or_insert(now);
        self.open.records += block.records();
        self.open.tokens += (0..block.rows()).map(|row| block.tokens.ids(row).len()).sum::<usize>();
        self.open.bytes += (0..block.records()).map(|record| block.body.bytes(record)).sum::<usize>();
        self.open.blocks.push(block);
    }

    fn close(&mut self, closed: WindowClosed) {
        let open = std::mem::take(&mut self.open);
        if let Some(opened) = open.opened {
            self.ready.push_back(Window { number: self.next_number, blocks: open.blocks, closed, opened });
            self.next_number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Permit;
    use crate::columnar::Columns;
    use crate::columnar::Tokens;
    use crate::record::{Body, Partition, Payload, Record, Rejection, Stage, Timestamps};

    /// A block of records of these token counts; `None` is a rejected record.
    fn block(first_offset: u64, lengths: &[Option<usize>]) -> Block {
        let mut tokens = Tokens::default();
        let (mut row_records, mut rejected) = (Vec::new(), Vec::new());
        for (record, length) in lengths.iter().enumerate() {
            match length {
                Some(length) => {
                    tokens.push(&vec![1; *length], 0);
                    row_records.push(record);
                }
                None => rejected.push(Rejection { record, stage: Stage::Extract, cause: "no text".into() }),
            }
        }
        let payload = || Payload::Text(Bytes::from_static(b"0123456789"));
        let records = (0..lengths.len()).map(|index| Record::new(first_offset + index as u64, payload()));
        Block {
            partition: Arc::new(Partition::Memory(0)),
            body: Body::Each(records.collect()),
            ids: row_records.iter().map(|record| (first_offset as usize + record).to_string()).collect(),
            texts: None,
            hashes: vec![[0; 32]; row_records.len()],
            kept: Columns::none(row_records.len()),
            row_records,
            tokens,
            rejected,
            deletes: Vec::new(),
            input_bytes_read: 0,
            permit: Permit::none(),
            timestamps: Timestamps::new(Instant::now(), Instant::now()),
        }
    }

    fn windows(config: &WindowConfig, lengths: &[Option<usize>], block_records: usize) -> Vec<Window> {
        let mut builder = WindowBuilder::new(config.clone(), false);
        let now = Instant::now();
        let mut windows = Vec::new();
        for (index, part) in lengths.chunks(block_records).enumerate() {
            builder.push(block((index * block_records) as u64, part), now);
            windows.extend(std::iter::from_fn(|| builder.next_ready(now)));
        }
        builder.finish();
        windows.extend(std::iter::from_fn(|| builder.next_ready(now)));
        windows
    }

    /// Each window as the offsets of its records and of its rejected records.
    fn shape(windows: &[Window]) -> Vec<(Vec<u64>, Vec<u64>)> {
        let offsets = |window: &Window| {
            window.blocks.iter().flat_map(|block| (0..block.records()).map(|i| block.body.offset(i))).collect()
        };
        let rejected = |window: &Window| {
            let of = |block: &Block| block.rejected.iter().map(|r| block.body.offset(r.record)).collect::<Vec<_>>();
            window.blocks.iter().flat_map(of).collect()
        };
        windows.iter().map(|window| (offsets(window), rejected(window))).collect()
    }

    proptest! {
        #[test]
        fn nothing_lost_order_and_budgets_kept(
            lengths in prop::collection::vec(prop::option::weighted(0.9, 0usize..40), 0..200),
            tokens in 1usize..100,
            records in 1usize..20,
            bytes in 1usize..200,
            sizes in (1usize..50, 1usize..50),
        ) {
            let config = WindowConfig { tokens, records, bytes, ..Default::default() };
            let windows = windows(&config, &lengths, sizes.0);
            let seen: Vec<u64> = shape(&windows).into_iter().flat_map(|(offsets, _)| offsets).collect();
            prop_assert_eq!(seen, (0..lengths.len() as u64).collect::<Vec<_>>());
            let rejected: Vec<u64> = shape(&windows).into_iter().flat_map(|(_, rejected)| rejected).collect();
            let expected = lengths.iter().enumerate().filter(|(_, length)| length.is_none());
            prop_assert_eq!(rejected, expected.map(|(index, _)| index as u64).collect::<Vec<_>>());
            for (number, window) in windows.iter().enumerate() {
                prop_assert_eq!(window.number, number as u64);
                let window_tokens: usize = window.block_rows().map(|(block, row)| block.tokens.ids(row).len()).sum();
                let fits = window_tokens <= tokens && window.records() * 10 <= bytes && window.records() <= records;
                prop_assert!(fits || window.records() == 1);
                for (block, row) in window.block_rows() {
                    let offset = block.body.offset(block.row_records[row]);
                    prop_assert_eq!(block.ids.get(row), offset.to_string());
                    prop_assert_eq!(Some(block.tokens.ids(row).len()), lengths[offset as usize]);
                }
            }
            // The windows do not depend on how the source grouped its records.
            prop_assert_eq!(shape(&windows), shape(&self::windows(&config, &lengths, sizes.1)));
        }
    }

    #[test]
    fn limits_change_between_blocks() {
        let now = Instant::now();
        let config = WindowConfig { tokens: 100, ..Default::default() };
        let mut builder = WindowBuilder::new(config, true);
        builder.push(block(0, &[Some(30), Some(30)]), now);
        assert!(builder.next_ready(now).is_none());
        builder.tune(40, Duration::from_millis(5));
        assert_eq!(builder.deadline(), Some(now + Duration::from_millis(5)));
        builder.push(block(2, &[Some(10), Some(30), Some(1)]), now);
        let rows: Vec<usize> = std::iter::from_fn(|| builder.next_ready(now)).map(|window| window.rows()).collect();
        assert_eq!(rows, [2, 2], "the open window is closed, the next has the new limit");
    }

    #[test]
    fn age_closes_the_window_of_a_live_source_only() {
        let start = Instant::now();
        let late = start + Duration::from_millis(50);
        for (live, expected) in [(true, Some(WindowClosed::Linger)), (false, None)] {
            let mut builder = WindowBuilder::new(WindowConfig::default(), live);
            builder.push(block(0, &[Some(3)]), start);
            assert!(builder.next_ready(late - Duration::from_millis(1)).is_none());
            assert_eq!(builder.next_ready(late).map(|window| window.closed), expected);
        }
    }
}

//! The window: a contiguous run of records of each source partition it touches, and the unit of delivery.
//!
//! Inside a window work is free: rows are sorted, batched and encoded in any order. A window is published whole, its rows
//! back in source order, and only then are its positions committed. Windows are cut at records, by record counts alone:
//! where the source's reading happens to pause does not show in them, so the same input gives the same windows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Block;

/// `window:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Most tokens in a window: enough to sort in, few enough that a window's age stays near a second on a CPU. A longer text
    /// has a window of its own.
    pub tokens: usize,
    /// Most records in a window.
    pub records: usize,
    /// Most bytes of records in a window.
    pub bytes: usize,
    /// A window of a live source (standard input to standard output) is closed at this age, in milliseconds, full or not.
    pub linger_ms: u64,
    /// Bytes that may be in flight between source and sink, besides an open window: records, and the vectors and tokens
    /// made of them. The bound on memory.
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

/// Why a window got no more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowClosed {
    Tokens,
    Records,
    Bytes,
    Linger,
    /// The source ended, or the pipeline is draining.
    End,
}

impl WindowClosed {
    pub const ALL: [WindowClosed; 5] =
        [WindowClosed::Tokens, WindowClosed::Records, WindowClosed::Bytes, WindowClosed::Linger, WindowClosed::End];

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

/// Records on their way to being published together.
#[derive(Debug)]
pub struct Window {
    /// Windows count from 0 in the order in which they were read, and are delivered in it.
    pub number: u64,
    pub blocks: Vec<Block>,
    pub closed: WindowClosed,
    /// When its first record came.
    pub opened: Instant,
}

impl Window {
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(Block::rows).sum()
    }

    pub fn records(&self) -> usize {
        self.blocks.iter().map(Block::records).sum()
    }

    /// Every row's block and its index there, in source order.
    pub fn row_places(&self) -> impl Iterator<Item = (&Block, usize)> {
        self.blocks.iter().flat_map(|block| (0..block.rows()).map(move |row| (block, row)))
    }

    /// Bytes of the whole input that are behind once this window is settled.
    pub fn input_bytes_read(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.input_bytes_read)
    }
}

/// Cuts blocks into windows. Pure: the clock is an argument.
#[derive(Debug)]
pub struct WindowBuilder {
    config: WindowConfig,
    /// `None` where windows never close by age.
    linger: Option<Duration>,
    next_number: u64,
    open: Open,
    ready: VecDeque<Window>,
}

#[derive(Debug, Default)]
struct Open {
    blocks: Vec<Block>,
    tokens: usize,
    records: usize,
    bytes: usize,
    opened: Option<Instant>,
}

impl WindowBuilder {
    /// `live` sources close windows by age too; others would lose the repeatability of their output by it.
    pub fn new(config: WindowConfig, live: bool) -> Self {
        let linger = live.then(|| Duration::from_millis(config.linger_ms));
        WindowBuilder { config, linger, next_number: 0, open: Open::default(), ready: VecDeque::new() }
    }

    /// Windows are cut by these from now on, the open one too.
    pub fn tune(&mut self, tokens: usize, linger: Duration) {
        self.config.tokens = tokens;
        if self.linger.is_some() {
            self.linger = Some(linger);
        }
    }

    /// Takes the next block of the source; closes windows that are full.
    pub fn push(&mut self, mut block: Block, now: Instant) {
        while let Some((at, closed)) = self.first_misfit(&block) {
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
        // At once: the record that would show it may be long in coming, or wait for the memory that this window holds.
        if let Some(closed) = self.full(self.open.tokens, self.open.records, self.open.bytes) {
            self.close(closed);
        }
    }

    /// The next closed window, closing the open one if it is too old at `now`.
    pub fn next_ready(&mut self, now: Instant) -> Option<Window> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.close(WindowClosed::Linger);
        }
        self.ready.pop_front()
    }

    /// When the open window is to be closed by age.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.open.opened? + self.linger?)
    }

    /// Closes the open window: no more records will come.
    pub fn finish(&mut self) {
        self.close(WindowClosed::End);
    }

    /// The first record of `block` that does not go into the open window, and why. A record that is too large for any
    /// window gets one of its own.
    fn first_misfit(&self, block: &Block) -> Option<(usize, WindowClosed)> {
        let Open { mut tokens, mut records, mut bytes, .. } = self.open;
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
                self.full(tokens, records, bytes)
            };
            if let Some(closed) = closed {
                return Some((record, closed));
            }
            (tokens, records, bytes) = (tokens + record_tokens, records + 1, bytes + record_bytes);
        }
        None
    }

    /// Whether a window of so much takes nothing more, not even a record without text.
    fn full(&self, tokens: usize, records: usize, bytes: usize) -> Option<WindowClosed> {
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
            times: Timestamps::read(Instant::now(), Instant::now()),
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
                let window_tokens: usize = window.row_places().map(|(block, row)| block.tokens.ids(row).len()).sum();
                let fits = window_tokens <= tokens && window.records() * 10 <= bytes && window.records() <= records;
                prop_assert!(fits || window.records() == 1);
                for (block, row) in window.row_places() {
                    let offset = block.body.offset(block.row_records[row]);
                    prop_assert_eq!(block.ids.get(row), offset.to_string());
                    prop_assert_eq!(Some(block.tokens.ids(row).len()), lengths[offset as usize]);
                }
            }
            // How the source cut its reading does not show.
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

//! Where rows go. A sink gets whole windows in order, on the delivery thread, and may block.

pub mod dead_letters;
pub mod file;
pub mod format;
pub mod memory;
pub mod partition_files;
pub mod ranges;
pub mod stdout;
pub mod whole_file;

use std::ops::Range;
use std::path::PathBuf;

use crate::failure::{ClientError, Failure};
use crate::output::Output;
use crate::record::Block;
use crate::record::DeadLetter;
use crate::window::Window;

/// A window's rows, as they go to a sink.
#[derive(Clone, Copy)]
pub struct WindowRows<'a> {
    pub window: &'a Window,
    pub output: &'a Output,
    /// Of each block of the window, whether it is still ours to publish; a sink that may publish a row twice need not ask.
    pub owned: &'a [bool],
    /// The context of the window's trace, where there is one, as messages carry it.
    pub traceparent: Option<&'a str>,
}

/// One block of a window on its way to a sink.
#[derive(Debug, Clone)]
pub struct BlockRows<'a> {
    pub block: &'a Block,
    pub is_owned: bool,
    /// The block's first row, counted in the window.
    pub first_row: usize,
    /// The block's rows that have a vector, as rows of the output.
    pub output: Range<usize>,
}

impl<'a> WindowRows<'a> {
    /// The blocks in source order.
    pub fn blocks(self) -> impl Iterator<Item = BlockRows<'a>> {
        let mut first_row = 0;
        self.window.blocks.iter().zip(self.owned).map(move |(block, &is_owned)| {
            let rows = first_row..first_row + block.rows();
            let output = self.output.rows_before(rows.start)..self.output.rows_before(rows.end);
            first_row = rows.end;
            BlockRows { block, is_owned, first_row: rows.start, output }
        })
    }
}

/// Takes rows, window by window.
///
/// Dropping a sink that was not finished leaves nothing under a final name but what was whole before.
pub trait Sink: Send {
    /// Takes one window's rows and deletes. Rows that the sink can never take come back as dead letters.
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError>;

    /// Whether windows without rows and deletes are written too.
    fn takes_every_window(&self) -> bool {
        false
    }

    /// Waits until what was written is durable. A file is so only when it is finished, so the plan lets no file take rows
    /// of a source whose positions are committed.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything that was written durable and visible, and says what there is now.
    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError>;
}

/// Takes dead letters, window by window. What is published with the rows is durable with them.
pub trait DeadLetterSink: Send {
    fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError>;

    /// Waits until what was written is durable, if it ever is before the end.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything that was written durable and visible.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// A file that a sink has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{}: {action}: {cause}", path.display())]
    Io { path: PathBuf, action: &'static str, cause: std::io::Error },
    #[error("{path}: cannot be written: {message}")]
    Format { path: String, message: String },
    #[error("standard output: nobody reads it any more")]
    Closed,
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl SinkError {
    pub fn failure(&self) -> Failure {
        match self {
            SinkError::Client(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

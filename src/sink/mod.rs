//! Where rows go. A [`Sink`] gets whole windows in order, a [`DeadLetterSink`] the records that were rejected. Both run
//! on the delivery thread and may block.

pub(crate) mod dead_letters;
pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod memory;
pub(crate) mod partition_files;
pub(crate) mod ranges;
pub(crate) mod stdout;
pub(crate) mod whole_file;

use std::ops::Range;
use std::path::PathBuf;

use crate::failure::{ClientError, Failure};
use crate::output::Output;
use crate::record::{Block, DeadLetter};
use crate::window::Window;

/// A window's rows, as a sink gets them.
#[derive(Clone, Copy)]
pub struct WindowRows<'a> {
    /// The window's records.
    pub window: &'a Window,
    /// Its rows.
    pub output: &'a Output,
    /// For each block of the window, whether its partition is still assigned to this consumer. A sink that may publish
    /// a row twice does not need this.
    pub owned: &'a [bool],
    /// The `traceparent` header of the window's messages, if the window is traced.
    pub traceparent: Option<&'a str>,
}

/// The rows of one block of a window.
#[derive(Debug, Clone)]
pub struct BlockRows<'a> {
    /// The block.
    pub block: &'a Block,
    /// Whether its partition is still assigned to this consumer.
    pub is_owned: bool,
    /// The index of its first row among the rows of the window.
    pub first_row: usize,
    /// Its rows in the output.
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

/// Publishes rows, window by window.
///
/// Dropping an unfinished sink leaves no unfinished file under its final name.
pub trait Sink: Send {
    /// Writes one window's rows and deletes. Returns rows that the sink can never take as dead letters.
    ///
    /// # Errors
    /// If writing fails; [`SinkError::failure`] tells whether to try again.
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError>;

    /// Whether the sink also gets windows without rows and deletes.
    fn takes_every_window(&self) -> bool {
        false
    }

    /// Waits until everything written is durable. Files are durable only once they are finished, so the plan refuses
    /// files for sources whose positions are committed by window.
    ///
    /// # Errors
    /// If something written is lost.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything written durable and visible, and returns the finished files.
    ///
    /// # Errors
    /// If a file cannot be finished.
    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError>;
}

/// Publishes dead letters, window by window.
pub trait DeadLetterSink: Send {
    /// Writes one dead letter.
    ///
    /// # Errors
    /// If writing fails.
    fn write(&mut self, dead_letter: &DeadLetter) -> Result<(), SinkError>;

    /// Waits until everything written is durable, if it can be before `finish`.
    ///
    /// # Errors
    /// If something written is lost.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Makes everything written durable and visible.
    ///
    /// # Errors
    /// If a file cannot be finished.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// A file that a sink has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its final path.
    pub path: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Why rows or dead letters cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The operating system failed; `action` is what failed, such as "cannot be written".
    #[error("{}: {action}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The rows cannot be written in the sink's format, or the existing files are wrong.
    #[error("{path}: cannot be written: {message}")]
    Format {
        /// The file or folder, or "standard output".
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A file that exists already cannot be read, or cannot be continued.
    #[error("{}: {message}", path.display())]
    Existing {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The reader of standard output has closed the pipe.
    #[error("standard output: broken pipe")]
    Closed,
    /// A client of another system failed, such as Kafka's.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl SinkError {
    /// Whether to try again; only a client's error can be temporary.
    pub fn failure(&self) -> Failure {
        match self {
            SinkError::Client(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

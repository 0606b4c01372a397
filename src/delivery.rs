//! How a window becomes durable: rows and dead letters out, in the order in which windows were read.
//!
//! Delivery has a thread of its own and may block there. A rejected record goes to the dead letters; without them the
//! first one stops the run before its window is written. A window that cannot be written stops the run: nothing later is
//! written in its place.

use crate::columnar::output::Output;
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::failure::Failure;
use crate::record::{Position, Stage};
use crate::sink::{Sink, SinkError, Written};
use crate::window::Window;

/// A window with its rows, ready to be published.
#[derive(Debug)]
pub struct EncodedWindow {
    pub window: Window,
    /// The rows that got a vector, in source order.
    pub output: Output,
    /// Every record that did not, in source order.
    pub rejected: Vec<DeadLetter>,
}

/// What became of a window. Every record of it is in exactly one of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    pub records: u64,
    pub rows: u64,
    pub dead_lettered: u64,
    pub tokens: u64,
    pub truncated_rows: u64,
    pub truncated_tokens: u64,
    pub input_bytes_read: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{position}: {cause} ({}); to go on without such records, name a file for them: {DEAD_LETTER_HINT}", stage.as_str())]
    Rejected { position: Position, stage: Stage, cause: String },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{0}")]
    DeadLetter(SinkError),
}

const DEAD_LETTER_HINT: &str = "--dead-letter FILE, or `dead_letter: { path: FILE }`";

impl DeliveryError {
    pub fn failure(&self) -> Failure {
        match self {
            DeliveryError::Rejected { .. } => Failure::Poison,
            DeliveryError::Sink(error) | DeliveryError::DeadLetter(error) => error.failure(),
        }
    }
}

/// The end of the way: owns the sink and the dead letters.
pub struct Delivery {
    sink: Box<dyn Sink>,
    dead_letters: Option<DeadLetters>,
}

impl Delivery {
    pub fn new(sink: Box<dyn Sink>, dead_letters: Option<DeadLetters>) -> Self {
        Delivery { sink, dead_letters }
    }

    /// Publishes one window. Its memory budget comes back when it is dropped here.
    pub fn settle(&mut self, encoded: EncodedWindow) -> Result<Settled, DeliveryError> {
        let EncodedWindow { window, output, rejected } = encoded;
        match &mut self.dead_letters {
            Some(dead_letters) => {
                rejected.iter().try_for_each(|letter| dead_letters.write(letter)).map_err(DeliveryError::DeadLetter)?;
            }
            None => {
                if let Some(DeadLetter { position, stage, cause, .. }) = rejected.into_iter().next() {
                    return Err(DeliveryError::Rejected { position, stage, cause });
                }
                return self.publish(&window, &output, 0);
            }
        }
        self.publish(&window, &output, rejected.len() as u64)
    }

    fn publish(&mut self, window: &Window, output: &Output, dead_lettered: u64) -> Result<Settled, DeliveryError> {
        let ends = window.blocks.first().zip(window.blocks.last());
        if let Some((first, last)) = ends.filter(|_| output.rows() > 0) {
            self.sink.write(output, &first.position(0), &last.position(last.records() - 1))?;
        }
        let mut settled = Settled {
            records: window.records() as u64,
            rows: output.rows() as u64,
            dead_lettered,
            input_bytes_read: window.input_bytes_read(),
            ..Default::default()
        };
        for (block, row) in window.row_places() {
            let truncated = u64::from(block.tokens.truncated(row));
            settled.tokens += block.tokens.ids(row).len() as u64;
            settled.truncated_tokens += truncated;
            settled.truncated_rows += u64::from(truncated > 0);
        }
        Ok(settled)
    }

    /// Makes everything that was published visible.
    pub fn finish(self) -> Result<Vec<Written>, DeliveryError> {
        // Dead letters first: rows must not appear while the records they leave out have gone without a trace.
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.finish().map_err(DeliveryError::DeadLetter)?;
        }
        Ok(self.sink.finish()?)
    }
}

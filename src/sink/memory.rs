//! Rows and dead letters into memory: what `embedmill test` compares, and for embedding embedmill in a program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeadLetterSink;
use super::{Sink, SinkError, WindowRows, Written};
use crate::output::Output;
use crate::record::DeadLetter;

/// Keeps what it gets; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    outputs: Vec<Output>,
    deletes: Vec<String>,
}

impl MemorySink {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The windows' rows, in the order in which they were delivered.
    pub fn outputs(&self) -> Vec<Output> {
        self.lock().outputs.clone()
    }

    /// The keys of what was deleted, in the same order.
    pub fn deletes(&self) -> Vec<String> {
        self.lock().deletes.clone()
    }
}

impl Sink for MemorySink {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        let key = |body: &crate::record::Body, record: usize| {
            let key = body.envelope(record).and_then(|envelope| envelope.key.as_deref()).unwrap_or_default();
            String::from_utf8_lossy(key).into_owned()
        };
        let mut kept = self.lock();
        kept.outputs.push(rows.output.clone());
        for block in &rows.window.blocks {
            kept.deletes.extend(block.deletes.iter().map(|&record| key(&block.body, record)));
        }
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        Ok(Vec::new())
    }
}

/// Keeps dead letters; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// In the order in which they came.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetterSink for MemoryDeadLetters {
    fn write(&mut self, letter: &DeadLetter) -> Result<(), SinkError> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }
}

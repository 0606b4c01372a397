//! Rows and dead letters in memory, for `embedmill test` and for programs that embed embedmill.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DeadLetterSink, Sink, SinkError, WindowRows, Written};
use crate::output::Output;
use crate::record::DeadLetter;

/// Keeps rows and deletes. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Debug, Default)]
struct MemoryState {
    outputs: Vec<Output>,
    deletes: Vec<String>,
}

impl MemorySink {
    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of each window, in order of delivery.
    pub fn outputs(&self) -> Vec<Output> {
        self.lock().outputs.clone()
    }

    /// The keys of the deletes, in order of delivery.
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
        let mut state = self.lock();
        state.outputs.push(rows.output.clone());
        for block in &rows.window.blocks {
            state.deletes.extend(block.deletes.iter().map(|&record| key(&block.body, record)));
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

/// Keeps dead letters. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDeadLetters {
    dead_letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// All dead letters, in order of delivery.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetterSink for MemoryDeadLetters {
    fn write(&mut self, dead_letter: &DeadLetter) -> Result<(), SinkError> {
        self.dead_letters.lock().unwrap_or_else(PoisonError::into_inner).push(dead_letter.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }
}

//! Rows into memory, for tests and for embedding embedmill in a program.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Sink, SinkError, WindowRows, Written};
use crate::columnar::output::Output;
use crate::dead_letter::DeadLetter;

/// Keeps what it gets; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    outputs: Arc<Mutex<Vec<Output>>>,
}

impl MemorySink {
    /// The windows' rows, in the order in which they were delivered.
    pub fn outputs(&self) -> Vec<Output> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for MemorySink {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).push(rows.output.clone());
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        Ok(Vec::new())
    }
}

//! Records from memory, for tests and for embedding embedmill in a program.

use std::sync::Arc;

use bytes::Bytes;

use super::{Outlet, Source, SourceError};
use crate::record::{Body, Partition, Payload, Record};

/// JSON documents, handed over `records_at_once` at a time.
#[derive(Debug, Clone)]
pub struct MemorySource {
    pub documents: Vec<String>,
    pub records_at_once: usize,
}

impl Source for MemorySource {
    fn run(self: Box<Self>, outlet: &mut Outlet) -> Result<(), SourceError> {
        let partition = Arc::new(Partition::Memory(0));
        let mut read = 0;
        for (chunk, documents) in self.documents.chunks(self.records_at_once.max(1)).enumerate() {
            let first = chunk * self.records_at_once.max(1);
            let records = documents.iter().enumerate().map(|(index, document)| {
                read += document.len() as u64;
                let payload = Payload::Json(Bytes::copy_from_slice(document.as_bytes()));
                Record::new((first + index) as u64, payload)
            });
            if outlet.send(&partition, Body::Each(records.collect()), read).is_err() {
                break;
            }
        }
        Ok(())
    }
}

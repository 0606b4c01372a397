//! Records from memory: what `embedmill test` tries a pipeline on, and for embedding embedmill in a program.

use std::sync::Arc;

use bytes::Bytes;

use super::{RecordSender, Source, SourceError};
use crate::record::{Body, Partition, Payload, Record};

/// Records of one partition, body by body.
#[derive(Debug, Clone)]
pub struct MemorySource {
    pub partition: Arc<Partition>,
    pub bodies: Vec<Body>,
}

impl MemorySource {
    /// JSON documents, handed over `records_at_once` at a time.
    pub fn json(documents: &[String], records_at_once: usize) -> Self {
        let records_at_once = records_at_once.max(1);
        let body = |(run, documents): (usize, &[String])| {
            let records = documents.iter().enumerate().map(|(index, document)| {
                let payload = Payload::Json(Bytes::copy_from_slice(document.as_bytes()));
                Record::new((run * records_at_once + index) as u64, payload)
            });
            Body::Each(records.collect())
        };
        MemorySource {
            partition: Arc::new(Partition::Memory(0)),
            bodies: documents.chunks(records_at_once).enumerate().map(body).collect(),
        }
    }
}

impl Source for MemorySource {
    fn run(self: Box<Self>, outlet: &mut RecordSender) -> Result<(), SourceError> {
        let mut read = 0;
        for body in self.bodies {
            read += (0..body.len()).map(|index| body.bytes(index) as u64).sum::<u64>();
            if outlet.send(&self.partition, body, read).is_err() {
                break;
            }
        }
        Ok(())
    }
}

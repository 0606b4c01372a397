//! Records from memory: the input of `embedmill test`, and of programs that embed embedmill.

use std::sync::Arc;

use bytes::Bytes;

use super::{RecordSender, Source, SourceError};
use crate::record::{Body, Partition, Payload, Record};

/// Records of one partition, sent body by body.
#[derive(Debug, Clone)]
pub struct MemorySource {
    /// The partition that all records belong to.
    pub partition: Arc<Partition>,
    /// The records, in ascending order of offset.
    pub bodies: Vec<Body>,
}

impl MemorySource {
    /// A source of JSON documents in partition 0, sent `records_at_once` (at least 1) at a time. Offsets count from 0.
    pub fn json(documents: &[String], records_at_once: usize) -> Self {
        let records_at_once = records_at_once.max(1);
        let body = |(number, documents): (usize, &[String])| {
            let records = documents.iter().enumerate().map(|(index, document)| {
                let payload = Payload::Json(Bytes::copy_from_slice(document.as_bytes()));
                Record::new((number * records_at_once + index) as u64, payload)
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
    fn run(self: Box<Self>, sender: &mut RecordSender) -> Result<(), SourceError> {
        let mut bytes_read = 0;
        for body in self.bodies {
            bytes_read += (0..body.len()).map(|index| body.bytes(index) as u64).sum::<u64>();
            if sender.send(&self.partition, body, bytes_read).is_err() {
                break;
            }
        }
        Ok(())
    }
}

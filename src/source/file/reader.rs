//! What cuts one input into records, and what all such readers share.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use bytes::Bytes;

use crate::record::{Body, Payload, Record};
use crate::source::SourceError;

/// Most records handed on at once. Some hundreds spread over the cores evenly and let windows be cut finely, and the
/// cost of handing on is still far below that of tokenizing them.
pub const RUN_RECORDS_MAX: usize = 256;
/// Most bytes handed on at once, but for a single record that is larger: long records are spread over the cores too.
pub const RUN_BYTES_MAX: usize = 256 << 10;
/// How much of something unreadable is kept: enough to recognise it, little enough to keep many.
const RAW_BYTES_MAX: usize = 4 << 10;

/// What cuts one input into records.
pub trait Reader: Send {
    /// The next run of records, `None` at the end. What breaks is the last record, an unreadable one.
    ///
    /// # Errors
    /// Only what is wrong with this machine rather than with the input.
    fn next(&mut self) -> Result<Option<Body>, SourceError>;

    /// Bytes of the input that are behind, as they lie on disk.
    fn input_bytes_read(&self) -> u64;
}

/// An input that breaks before its first record, or after its last.
pub struct Broken(Option<Body>);

impl Broken {
    pub fn at(offset: u64, raw: &[u8], cause: String) -> Self {
        Broken(Some(Body::Each(vec![unreadable(offset, raw, cause)])))
    }
}

impl Reader for Broken {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.0.take())
    }

    fn input_bytes_read(&self) -> u64 {
        0
    }
}

/// What could not be cut into a record. The first bytes are copied, so that they do not hold a whole block in memory.
pub fn unreadable(offset: u64, raw: &[u8], cause: String) -> Record {
    let raw = Bytes::copy_from_slice(&raw[..raw.len().min(RAW_BYTES_MAX)]);
    Record::new(offset, Payload::Unreadable { raw, cause })
}

/// Runs a decoder of the arrow or parquet crate. About one in a thousand corrupt files makes them slice out of bounds,
/// which is a panic rather than an error; here it is an error like any other, and the decoder is not used again.
pub fn guarded<T, E: fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(panicked) => Err(match panicked.downcast_ref::<String>() {
            Some(message) => format!("the data contradicts itself: {message}"),
            None => "the data contradicts itself".into(),
        }),
    }
}

//! The [`Reader`] of one input, and what the readers of all formats share: limits, unreadable records, and a guard
//! against decoders that panic.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use bytes::Bytes;

use crate::record::{Body, Payload, Record};
use crate::source::SourceError;

/// Maximum records of one body. Some hundreds spread evenly over the cores and let windows end close to their limits,
/// while the cost of sending a body is still far below that of tokenizing it.
pub(crate) const BODY_RECORDS_MAX: usize = 256;
/// Maximum bytes of one body, unless a single record is larger: long records are spread over the cores too.
pub(crate) const BODY_BYTES_MAX: usize = 256 << 10;
/// How many bytes of an unreadable record are kept: enough to recognise it, few enough to keep many.
const RAW_BYTES_MAX: usize = 4 << 10;

/// Splits one input into records.
pub(crate) trait Reader: Send {
    /// The next records, or `None` at the end. A body may be empty, as after many blank lines. If the input breaks, its
    /// last record is an unreadable one with the reason.
    ///
    /// # Errors
    /// Only if this machine fails, never because of the input.
    fn next(&mut self) -> Result<Option<Body>, SourceError>;

    /// Bytes of the input read so far, as they lie on disk (compressed).
    fn input_bytes_read(&self) -> u64;
}

/// The reader of an input that cannot be opened: it gives one unreadable record.
pub(crate) struct FailedReader(Option<Body>);

impl FailedReader {
    /// A reader whose one record, at offset 0, has this `cause`.
    pub(crate) fn new(cause: String) -> Self {
        FailedReader(Some(Body::Each(vec![unreadable(0, &[], cause)])))
    }
}

impl Reader for FailedReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.0.take())
    }

    fn input_bytes_read(&self) -> u64 {
        0
    }
}

/// A record of bytes that could not be split into one. Their beginning is copied, so that it does not keep a whole
/// block in memory.
pub(crate) fn unreadable(offset: u64, raw: &[u8], cause: String) -> Record {
    let raw = Bytes::copy_from_slice(&raw[..raw.len().min(RAW_BYTES_MAX)]);
    Record::new(offset, Payload::Unreadable { raw, cause })
}

/// Runs a decoder of the arrow or parquet crate and turns a panic into an error. About one in a thousand corrupt files
/// makes these decoders slice out of bounds, which panics. After an error the caller must not use the decoder again.
pub(crate) fn guarded<T, E: fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(panicked) => Err(match panicked.downcast_ref::<String>() {
            Some(message) => format!("inconsistent data: {message}"),
            None => "inconsistent data".into(),
        }),
    }
}

//! Reads the messages of an Arrow IPC stream and checks them before they are decoded.
//!
//! In: a [`Stream`]. Out: one whole message at a time, its head and its body. Kept: nothing. The arrow crate trusts the
//! offsets and lengths of the buffers that a message lists: a wrong offset makes it panic, and a wrong length of a
//! compressed buffer makes it allocate that much memory, which ends the process. Such a message fails here instead,
//! with its fault.

use std::io::Read;

use arrow::buffer::Buffer;
use arrow::ipc::{RecordBatch, root_as_message};

use super::stream::Stream;

/// The marker before every message. Writers before 2019 left it out and began a message with its length.
pub(crate) const MARKER: [u8; 4] = [0xff; 4];
/// The mark that ends a stream. A stream may also end without it.
pub(crate) const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Maximum decompressed bytes of one buffer: as far as 32-bit offsets of strings reach, and far above what writers
/// make.
const BUFFER_BYTES_MAX: i64 = i32::MAX as i64;
/// Maximum bytes allocated before the bytes that fill them have arrived.
const RESERVED_BYTES_MAX: usize = 16 << 20;

/// The next item of a stream.
pub(crate) enum StreamItem {
    /// A message: `head` is its length and metadata, `body` its buffers.
    Message { head: Buffer, body: Buffer },
    /// The mark that ends a stream; another stream may follow.
    EndOfStream,
    /// The end of the input, where a message could begin.
    EndOfInput,
}

/// Reads the next message.
///
/// # Errors
/// If the stream is corrupt, ends inside the message, or the message is inconsistent.
pub(crate) fn next(stream: &mut Stream) -> Result<StreamItem, String> {
    let mut head = read(stream, 4)?;
    match head.len() {
        0 => return Ok(StreamItem::EndOfInput),
        4 => {}
        _ => return Err(ends_early()),
    }
    if head == MARKER {
        head.extend(read_whole(stream, 4)?);
    }
    let length = [0, 1, 2, 3].map(|index| head[head.len() - 4 + index]);
    let length = i32::from_le_bytes(length);
    if length == 0 {
        return Ok(StreamItem::EndOfStream);
    }
    let length = usize::try_from(length).map_err(|_| format!("message length: found {length} bytes"))?;
    let metadata = read_whole(stream, length)?;
    let message = root_as_message(&metadata).map_err(|error| format!("invalid Arrow message: {error}"))?;
    let body_length = message.bodyLength();
    let body_length = usize::try_from(body_length).map_err(|_| format!("body length: found {body_length} bytes"))?;
    let body = read_whole(stream, body_length)?;
    let batch = message.header_as_record_batch();
    let dictionary = || message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    if let Some(batch) = batch.or_else(dictionary) {
        check(batch, &body)?;
    }
    head.extend_from_slice(&metadata);
    Ok(StreamItem::Message { head: Buffer::from_vec(head), body: Buffer::from_vec(body) })
}

/// Checks that every buffer lies inside the body, and that no compressed buffer claims an absurd size.
fn check(batch: RecordBatch<'_>, body: &[u8]) -> Result<(), String> {
    let compressed = batch.compression().is_some();
    for (number, buffer) in batch.buffers().into_iter().flatten().enumerate() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let inside = usize::try_from(offset).ok().zip(usize::try_from(length).ok()).and_then(|(offset, length)| {
            let end = offset.checked_add(length)?;
            body.get(offset..end)
        });
        let Some(inside) = inside else {
            let bytes = body.len();
            return Err(format!(
                "buffer {number}: found {length} bytes at {offset}; expected them within the batch's {bytes}"
            ));
        };
        // A compressed buffer begins with its decompressed length, or with -1 if its writer left it uncompressed.
        if let (true, Some(decompressed)) = (compressed, inside.first_chunk::<8>()) {
            let decompressed = i64::from_le_bytes(*decompressed);
            if !(-1..=BUFFER_BYTES_MAX).contains(&decompressed) {
                return Err(format!(
                    "buffer {number}: found {decompressed} decompressed bytes; expected at most {BUFFER_BYTES_MAX} \
                     (the file is corrupt, or its batches are too large)"
                ));
            }
        }
    }
    Ok(())
}

/// Reads `count` bytes, or fewer at the end of the input.
fn read(stream: &mut Stream, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(count.min(RESERVED_BYTES_MAX));
    stream.take(count as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Reads exactly `count` bytes.
fn read_whole(stream: &mut Stream, count: usize) -> Result<Vec<u8>, String> {
    let bytes = read(stream, count)?;
    if bytes.len() == count { Ok(bytes) } else { Err(ends_early()) }
}

/// The error of a stream that ends inside a message.
pub(crate) fn ends_early() -> String {
    "the Arrow data ends early (the file is truncated; fetch or write it again)".into()
}

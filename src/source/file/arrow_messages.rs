//! The messages of an Arrow IPC stream, checked before they are decoded.
//!
//! In: a [`Stream`]. Out: one message at a time, whole: its head and its body. Kept: nothing. The arrow crate trusts the
//! places and lengths of buffers that a message names: a wrong place makes it panic, and a wrong length of a compressed
//! buffer makes it ask for that much memory, which ends the process. Such messages fail here instead, with what is wrong.

use std::io::Read;

use arrow::buffer::Buffer;
use arrow::ipc::{RecordBatch, root_as_message};

use super::stream::Stream;

/// What stands before every message since 2019; before, a message began with its length.
pub const MARKER: [u8; 4] = [0xff; 4];
/// The end of a stream, as it may also be left out.
pub const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Most decompressed bytes of one buffer: what 32-bit offsets of strings can reach, and far above what writers make.
const BUFFER_BYTES_MAX: i64 = i32::MAX as i64;
/// Most memory asked for before the bytes that fill it have come.
const ASKED_BYTES_MAX: usize = 16 << 20;

/// What comes next in a stream.
pub enum Next {
    /// A message with its length before it, and its body.
    Message { head: Buffer, body: Buffer },
    /// The mark that ends a stream; more may follow.
    EndOfStream,
    /// No byte more, where a message may begin.
    EndOfInput,
}

/// Reads the next message.
///
/// # Errors
/// If the stream breaks, ends inside the message, or the message contradicts itself.
pub fn next(stream: &mut Stream) -> Result<Next, String> {
    let mut head = read(stream, 4)?;
    match head.len() {
        0 => return Ok(Next::EndOfInput),
        4 => {}
        _ => return Err(cut_off()),
    }
    if head == MARKER {
        head.extend(read_whole(stream, 4)?);
    }
    let length = [0, 1, 2, 3].map(|place| head[head.len() - 4 + place]);
    let length = i32::from_le_bytes(length);
    if length == 0 {
        return Ok(Next::EndOfStream);
    }
    let length = usize::try_from(length).map_err(|_| format!("a message of {length} bytes"))?;
    let metadata = read_whole(stream, length)?;
    let message = root_as_message(&metadata).map_err(|error| format!("no Arrow message: {error}"))?;
    let body_length = message.bodyLength();
    let body_length = usize::try_from(body_length).map_err(|_| format!("a body of {body_length} bytes"))?;
    let body = read_whole(stream, body_length)?;
    let batch = message.header_as_record_batch();
    let dictionary = || message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    if let Some(batch) = batch.or_else(dictionary) {
        check(batch, &body)?;
    }
    head.extend_from_slice(&metadata);
    Ok(Next::Message { head: Buffer::from_vec(head), body: Buffer::from_vec(body) })
}

/// Sees that every buffer lies in the body, and that no compressed one claims to be absurdly large.
fn check(batch: RecordBatch, body: &[u8]) -> Result<(), String> {
    let compressed = batch.compression().is_some();
    for (number, buffer) in batch.buffers().into_iter().flatten().enumerate() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let inside = usize::try_from(offset).ok().zip(usize::try_from(length).ok()).and_then(|(offset, length)| {
            let end = offset.checked_add(length)?;
            body.get(offset..end)
        });
        let Some(inside) = inside else {
            let bytes = body.len();
            return Err(format!("buffer {number} is {length} bytes at {offset}, outside the batch's {bytes} bytes"));
        };
        // A compressed buffer begins with its decompressed length, or -1 if it is not worth compressing.
        if let (true, Some(decompressed)) = (compressed, inside.first_chunk::<8>()) {
            let decompressed = i64::from_le_bytes(*decompressed);
            if !(-1..=BUFFER_BYTES_MAX).contains(&decompressed) {
                return Err(format!(
                    "buffer {number} is {decompressed} bytes when decompressed, more than {BUFFER_BYTES_MAX}; \
                     is it broken? otherwise write smaller batches"
                ));
            }
        }
    }
    Ok(())
}

/// As many bytes as asked for, or as there are.
fn read(stream: &mut Stream, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(count.min(ASKED_BYTES_MAX));
    stream.take(count as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn read_whole(stream: &mut Stream, count: usize) -> Result<Vec<u8>, String> {
    let bytes = read(stream, count)?;
    if bytes.len() == count { Ok(bytes) } else { Err(cut_off()) }
}

/// What is wrong with a stream that ends where it must not.
pub fn cut_off() -> String {
    "the Arrow data ends early: the file is cut off; fetch or write it again".into()
}

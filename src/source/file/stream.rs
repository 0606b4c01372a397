//! The decompressed bytes of one input.
//!
//! In: any [`Read`]. Out: its bytes, decompressed as its first bytes (never its name) tell. Kept: the decoder's window
//! and a block. Fails with a message that a dead letter can carry: what is corrupt, and after how many bytes. An error
//! ends the stream.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes are needed to detect a compression: the longest magic number, that of bzip2 with its first block.
const HEAD_BYTES: usize = 10;
/// How many bytes are read from disk at once: enough that system calls do not matter.
const DISK_BYTES: usize = 64 << 10;

/// How an input is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip, with any number of members.
    Gzip,
    /// Zstandard, with any number of frames.
    Zstd,
    /// bzip2, with any number of streams.
    Bzip2,
}

/// Compressions and archives that are detected but not supported: magic number, name, and how a user can convert them.
const UNSUPPORTED: [(&[u8], &str, &str); 6] = [
    (b"\xfd7zXZ\0", "xz-compressed data", "decompress it: xz -dc FILE | embedmill encode -"),
    (b"\x04\x22\x4d\x18", "lz4-compressed data", "decompress it: lz4 -dc FILE | embedmill encode -"),
    (b"\xff\x06\0\0sNaPpY", "snappy-compressed data", "decompress it first"),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip FILE -d FOLDER"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x FILE"),
    (b"Rar!\x1a\x07", "a rar archive", "unpack it first"),
];

impl Compression {
    /// Whether more bytes could complete `head` to a magic number.
    fn may_become(head: &[u8]) -> bool {
        let supported: [&[u8]; 3] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh"];
        let all = supported.into_iter().chain(UNSUPPORTED.iter().map(|(magic, ..)| *magic));
        all.into_iter().any(|magic| head.len() < magic.len() && magic.starts_with(head))
    }

    /// Detects the compression by the first bytes of an input; `head` should have ten of them.
    ///
    /// # Errors
    /// If they belong to an unsupported compression or an archive.
    pub fn of(head: &[u8]) -> Result<Self, String> {
        if let Some((_, what, advice)) = UNSUPPORTED.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Err(format!("found {what}; expected gzip, zstd, bzip2 or uncompressed data ({advice})"));
        }
        // A zstd stream may begin with a skippable frame, whose magic number leaves four bits open.
        let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18";
        // "BZh" alone could be text; with the magic number of a block or of the stream's end after it, it is bzip2.
        let bzip2 = head.len() >= 10
            && head.starts_with(b"BZh")
            && (head[4..10] == *b"1AY&SY" || head[4..10] == *b"\x17rE8P\x90");
        Ok(if head.starts_with(b"\x1f\x8b") {
            Compression::Gzip
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
            Compression::Zstd
        } else if bzip2 {
            Compression::Bzip2
        } else {
            Compression::None
        })
    }

    /// The compression's name, as messages show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Bzip2 => "bzip2",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts the bytes that are read from disk.
struct CountedReader {
    /// The bytes that were read to detect the compression.
    head: Cursor<Vec<u8>>,
    inner: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for CountedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut read = self.head.read(out)?;
        if read == 0 {
            read = self.inner.read(out)?;
        }
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Raw = BufReader<CountedReader>;

enum Decoder {
    Plain(Raw),
    Gzip(Box<flate2::bufread::GzDecoder<Raw>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Raw>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Raw>>),
    Ended,
}

/// The decompressed bytes of one input.
pub struct Stream {
    decoder: Decoder,
    compression: Compression,
    /// Bytes that `peek` has decompressed and nobody has read yet.
    peeked: Cursor<Vec<u8>>,
    /// An error that is returned once the bytes before it have been read.
    pending: Option<io::Error>,
    bytes_decoded: u64,
    bytes_read: Arc<AtomicU64>,
    live: bool,
}

impl Stream {
    /// Detects the compression. The bytes of a `live` input, such as a pipe, are handed on as they arrive rather than
    /// in whole blocks.
    ///
    /// # Errors
    /// If the first bytes cannot be read, or ([`io::ErrorKind::InvalidData`]) belong to an unsupported compression.
    pub fn new(mut inner: Box<dyn Read + Send>, live: bool) -> io::Result<Self> {
        let mut head = Vec::new();
        // A live input may have fewer bytes than a magic number so far; more are awaited only if they could complete
        // one.
        while head.len() < HEAD_BYTES && (!live || head.is_empty() || Compression::may_become(&head)) {
            let mut more = [0; HEAD_BYTES];
            match inner.read(&mut more[head.len()..]) {
                Ok(0) => break,
                Ok(read) => {
                    let start = head.len();
                    head.extend_from_slice(&more[start..start + read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let compression = Compression::of(&head).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = CountedReader { head: Cursor::new(head), inner, bytes: bytes_read.clone() };
        let raw = BufReader::with_capacity(DISK_BYTES, counted);
        let decoder = match compression {
            Compression::None => Decoder::Plain(raw),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::GzDecoder::new(raw))),
            Compression::Zstd => Decoder::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(raw)?)),
            Compression::Bzip2 => Decoder::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(raw))),
        };
        let peeked = Cursor::new(Vec::new());
        Ok(Stream { decoder, compression, peeked, pending: None, bytes_decoded: 0, bytes_read, live })
    }

    /// The compression that was detected.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether bytes are handed on as they arrive.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Bytes read so far, as they lie on disk (compressed).
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Up to `count` of the next bytes, which stay to be read. Only for the start of the stream.
    pub fn peek(&mut self, count: usize) -> &[u8] {
        // The other bytes of a live input may be hours away, and the first ones tell most.
        let enough = if self.live { count.min(8) } else { count };
        let mut seen = self.peeked.get_ref()[self.peeked.position() as usize..].to_vec();
        while seen.len() < enough && self.pending.is_none() {
            let start = seen.len();
            seen.resize(count, 0);
            let read = self.decode(&mut seen[start..]);
            seen.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => self.pending = Some(error),
            }
        }
        self.peeked = Cursor::new(seen);
        let seen = self.peeked.get_ref();
        // An earlier call may have asked for more bytes.
        &seen[..seen.len().min(count)]
    }

    /// Reads until `out` is full (or once, if the input is live), and returns how many bytes were read; 0 at the end.
    ///
    /// # Errors
    /// If the input is corrupt or unreadable, once all bytes before the fault have been read.
    pub fn fill(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.peeked.read(out)?;
        while filled < out.len() && self.pending.is_none() && !(self.live && filled > 0) {
            match self.decode(&mut out[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => self.pending = Some(error),
            }
        }
        match self.pending.take() {
            Some(error) if filled == 0 => Err(error),
            pending => {
                self.pending = pending;
                Ok(filled)
            }
        }
    }

    /// One read of the decoder, which continues from one gzip member to the next.
    fn decode(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.decoder {
                Decoder::Plain(raw) => raw.read(out),
                Decoder::Gzip(gzip) => gzip.read(out),
                Decoder::Zstd(zstd) => zstd.read(out),
                Decoder::Bzip2(bzip2) => bzip2.read(out),
                Decoder::Ended => return Ok(0),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.corrupt(error)),
                Ok(0) if !out.is_empty() => {
                    self.decoder = match std::mem::replace(&mut self.decoder, Decoder::Ended) {
                        Decoder::Gzip(gzip) => next_member(gzip.into_inner()).map_err(|error| self.corrupt(error))?,
                        _ => Decoder::Ended,
                    };
                }
                Ok(read) => {
                    self.bytes_decoded += read as u64;
                    return Ok(read);
                }
            }
        }
    }

    /// Ends the stream with an error that says where it is corrupt.
    fn corrupt(&mut self, error: io::Error) -> io::Error {
        self.decoder = Decoder::Ended;
        let (kind, after, name) = (error.kind(), self.bytes_decoded, self.compression);
        io::Error::new(
            kind,
            match (name, kind) {
                (Compression::None, _) => format!("cannot be read further after {after} bytes: {error}"),
                (_, io::ErrorKind::UnexpectedEof) => format!(
                    "the {name} stream ends early, after {after} decompressed bytes (the file is truncated; fetch or write it \
                     again)"
                ),
                _ => format!(
                    "the {name} stream is corrupt after {after} decompressed bytes: {error} (fetch or write the file again)"
                ),
            },
        )
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill(out)
    }
}

/// The decoder of the next gzip member. Zeros may follow the last member: tapes and block devices pad with them.
fn next_member(mut raw: Raw) -> io::Result<Decoder> {
    loop {
        let more = raw.fill_buf()?;
        match more.iter().position(|&byte| byte != 0) {
            _ if more.is_empty() => return Ok(Decoder::Ended),
            None => {
                let zeros = more.len();
                raw.consume(zeros);
            }
            Some(zeros) if more[zeros] == 0x1f => {
                raw.consume(zeros);
                return Ok(Decoder::Gzip(Box::new(flate2::bufread::GzDecoder::new(raw))));
            }
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected content after its end")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).expect("memory takes everything")
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
    }

    /// A stream over bytes in memory.
    pub(crate) fn stream(bytes: impl Into<Vec<u8>>) -> Stream {
        Stream::new(Box::new(Cursor::new(bytes.into())), false).expect("a known compression")
    }

    fn read(bytes: Vec<u8>) -> (Vec<u8>, Option<String>) {
        let mut stream = stream(bytes);
        let mut all = Vec::new();
        let mut block = [0; 1000];
        loop {
            match stream.fill(&mut block) {
                Ok(0) => return (all, None),
                Ok(read) => all.extend_from_slice(&block[..read]),
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn every_compression_in_one_piece_and_in_several() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let twice = [text.as_slice(), &text].concat();
        let skippable = [b"\x53\x2a\x4d\x18\x03\0\0\0abc".as_slice(), &zstd(&text)].concat();
        let check = |bytes: Vec<u8>, expected: &[u8]| {
            let (read, error) = read(bytes);
            assert_eq!((read == expected, error), (true, None));
        };
        check(text.clone(), &text);
        check(gzip(&text), &text);
        check([gzip(&text), gzip(b""), gzip(&text)].concat(), &twice);
        check([gzip(&text), vec![0; 100_000]].concat(), &text);
        check(zstd(&text), &text);
        check([zstd(&text), zstd(&text)].concat(), &twice);
        check(skippable, &text);
        check(bzip2(&text), &text);
        check([bzip2(&text), bzip2(&text)].concat(), &twice);
        check(bzip2(b""), b"");
        check(Vec::new(), b"");
        check(b"BZh9 is how a text may begin".to_vec(), b"BZh9 is how a text may begin");
    }

    #[test]
    fn what_breaks_is_named_after_all_that_was_whole() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let check = |mut bytes: Vec<u8>, keep: usize, expected: &str| {
            bytes.truncate(bytes.len() - keep);
            let error = read(bytes).1.unwrap_or_default();
            assert!(error.starts_with(expected), "{error}");
        };
        let all = text.len();
        check(gzip(&text), 1, &format!("the gzip stream ends early, after {all} decompressed bytes"));
        check(gzip(&text), 1000, "the gzip stream ends early, after ");
        check(zstd(&text), 1000, "the zstd stream ends early, after ");
        check(bzip2(&text), 1000, "the bzip2 stream ends early, after ");
        check([gzip(&text), b"garbage".to_vec()].concat(), 0, "the gzip stream is corrupt after ");
        check([zstd(&text), b"garbage".to_vec()].concat(), 0, "the zstd stream is corrupt after ");
        check(b"\x1f\x8b".to_vec(), 0, "the gzip stream ends early, after 0 ");
        let mut flipped = gzip(&text);
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        check(flipped, 0, "the gzip stream is corrupt after ");
    }

    #[test]
    fn other_compressions_are_refused_with_what_to_do() {
        let error = Compression::of(b"\xfd7zXZ\0abcdef").expect_err("not supported");
        assert_eq!(
            error,
            "found xz-compressed data; expected gzip, zstd, bzip2 or uncompressed data \
             (decompress it: xz -dc FILE | embedmill encode -)"
        );
        assert!(Compression::of(b"PK\x03\x04").is_err());
    }
}

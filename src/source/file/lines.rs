//! One record per line: JSON lines and plain text.
//!
//! The offset of a record is the number of its line, blank lines included, so that errors show the line number that an
//! editor shows.

use std::ops::Range;

use bytes::Bytes;

use super::reader::Reader;
use super::splitter::{Boundary, RecordSplitter};
use super::stream::Stream;
use crate::record::{Body, Payload};
use crate::source::SourceError;

/// Ends records at line feeds.
struct LineEnds;

impl Boundary for LineEnds {
    const NAME: &'static str = "line";

    fn find(&mut self, more: &[u8]) -> Option<usize> {
        memchr::memchr(b'\n', more).map(|index| index + 1)
    }

    fn offset_step(&self) -> u64 {
        1
    }

    fn trim(&self, piece: &[u8]) -> Range<usize> {
        0..without_line_end(piece).len()
    }

    fn unfinished(&self) -> Option<String> {
        None
    }

    fn advice(&self) -> &'static str {
        "shorten it, or raise source.files.record_bytes_max"
    }
}

/// The line without `\n` or `\r\n` at its end.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads one record per line.
pub(crate) struct LineReader {
    splitter: RecordSplitter<LineEnds>,
    payload: fn(Bytes) -> Option<Result<Payload, String>>,
}

impl LineReader {
    /// One JSON document per line; a line of white space is blank.
    pub(crate) fn json(stream: Stream, record_bytes_max: usize) -> Self {
        let payload = |raw: Bytes| (!raw.trim_ascii().is_empty()).then_some(Ok(Payload::Json(raw)));
        LineReader { splitter: RecordSplitter::new(stream, LineEnds, record_bytes_max), payload }
    }

    /// One text per line. A line of spaces is a text; only an empty line is blank.
    pub(crate) fn text(stream: Stream, record_bytes_max: usize) -> Self {
        let payload = |raw: Bytes| (!raw.is_empty()).then_some(Ok(Payload::Text(raw)));
        LineReader { splitter: RecordSplitter::new(stream, LineEnds, record_bytes_max), payload }
    }
}

impl Reader for LineReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.splitter.next_body(self.payload))
    }

    fn input_bytes_read(&self) -> u64 {
        self.splitter.input_bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::stream::tests::{gzip, stream};
    use super::super::tests::show;
    use super::*;

    fn text(bytes: &[u8]) -> Vec<String> {
        show(LineReader::text(stream(bytes), 20))
    }

    #[test]
    fn lines_as_an_editor_counts_them() {
        let check = |input: &[u8], expected: &[&str]| assert_eq!(text(input), expected);
        check(b"", &[]);
        check(b"\n\n", &[]);
        check(b"one", &["1 one"]);
        check(b"one\ntwo\n", &["1 one", "2 two"]);
        check(b"one\r\ntwo\r\n\r\nfour", &["1 one", "2 two", "4 four"]);
        check(b"\xef\xbb\xbfone\ntwo", &["1 one", "2 two"]);
        check(b"\xef\xbb\xbf", &[]);
        check(b"a\0b\n  \nc\rd", &["1 a\0b", "2   ", "3 c\rd"]);
        check("größe\n\u{feff}x".as_bytes(), &["1 größe", "2 \u{feff}x"]);
        check(b"12345678901234567890\n", &["1 12345678901234567890"]);
        let long = "the line is too long; expected at most 20 bytes \
                    (shorten it, or raise source.files.record_bytes_max)";
        check(b"a\n123456789012345678901\nb", &["1 a", &format!("2 UNREADABLE 123456789012345678901: {long}"), "3 b"]);
        check(
            b"\xff\xfea\0",
            &["1 UNREADABLE : found a UTF-16 byte order mark; expected UTF-8 \
            (convert the file: iconv -f UTF-16 -t UTF-8 FILE)"],
        );
    }

    #[test]
    fn live_input_is_handed_on_as_it_comes() {
        let parts = b"one\ntwo\nth".chain(b"ree\n\n".as_slice()).chain(b"half".as_slice());
        let mut lines = LineReader::text(Stream::new(Box::new(parts), true).expect("plain"), 20);
        let mut runs = Vec::new();
        while let Ok(Some(Body::Each(records))) = lines.next() {
            runs.push(records.into_iter().map(|record| record.offset + 1).collect::<Vec<_>>());
        }
        assert_eq!(runs, [vec![1, 2], vec![3], vec![5]]);
    }

    #[test]
    fn blank_json_lines_are_skipped_and_counted() {
        let shown = show(LineReader::json(stream(b"{}\n \t\r\n{\"a\":1}\n".as_slice()), 100));
        assert_eq!(shown, ["1 {}", "3 {\"a\":1}"]);
    }

    #[test]
    fn a_long_line_is_rejected_once_and_the_next_is_read() {
        let mut input = b"first\n".to_vec();
        input.resize(3 << 20, b'x');
        input.extend_from_slice(b"\nlast");
        let shown = show(LineReader::text(stream(input), 1000));
        assert_eq!(shown.len(), 3);
        assert!(shown[1].starts_with("2 UNREADABLE xxx"));
        assert!(shown[1].len() < 5000, "only its first bytes are kept");
        assert_eq!((shown[0].as_str(), shown[2].as_str()), ("1 first", "3 last"));
    }

    #[test]
    fn half_a_line_before_a_break_is_no_record() {
        let mut input: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
        input.push_str("half of a li");
        let mut compressed = gzip(input.as_bytes());
        compressed.truncate(compressed.len() - 2);
        let shown = show(LineReader::text(stream(compressed), 1000));
        assert_eq!(shown.len(), 50_001);
        assert_eq!(shown[49_999], "50000 line 49999");
        let expected = format!(
            "50001 UNREADABLE half of a li: the gzip stream ends early, after {} decompressed bytes (",
            input.len()
        );
        assert!(shown[50_000].starts_with(&expected), "{}", shown[50_000]);
    }
}

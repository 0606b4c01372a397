//! One record per JSON value: the elements of one array, or values one after the other. A value may span several lines.
//!
//! Brackets and quotes alone tell where a value ends, so it is found without being parsed; the stage that parses it
//! later reports errors inside it. Offsets count values, as several may be on one line.

use std::ops::Range;

use super::reader::Reader;
use super::splitter::{Boundary, RecordSplitter};
use super::stream::Stream;
use crate::record::{Body, Payload};
use crate::source::SourceError;

/// Finds the ends of JSON values.
#[derive(Default)]
pub(crate) struct ValueEnds {
    /// Whether the values are elements of one array; unknown before the first byte.
    array: Option<bool>,
    /// Whether the end of the array was seen.
    closed: bool,
    /// Whether content follows the end of the array.
    trailing: bool,
    depth: usize,
    string: bool,
    escaped: bool,
    /// Whether the current byte is inside a number, a literal such as `null`, or invalid text.
    scalar: bool,
    /// How many bytes of the current value were seen in earlier calls.
    before: usize,
    /// Where the current value begins in its bytes, which may have separators in front.
    start: Option<usize>,
    /// The same for the value whose end was found last.
    found_start: Option<usize>,
}

impl ValueEnds {
    /// Moves over the byte at `index`; returns the end of the value if the byte ends it.
    fn step(&mut self, byte: u8, index: usize) -> Option<usize> {
        let whole = |ends: &Self| (ends.depth == 0 && ends.start.is_some()).then_some(index + 1);
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.string = false;
                    return whole(self);
                }
                _ => {}
            }
            return None;
        }
        let separator = byte.is_ascii_whitespace() || byte == b',';
        if self.scalar && (separator || matches!(byte, b'[' | b']' | b'{' | b'}' | b'"')) {
            return Some(index);
        }
        if separator || self.scalar {
            return None;
        }
        self.trailing |= self.closed;
        match byte {
            b'[' if self.array.is_none() => self.array = Some(true),
            b']' if self.depth == 0 && self.array == Some(true) => self.closed = true,
            _ => {
                self.array.get_or_insert(false);
                self.start.get_or_insert(self.before + index);
                match byte {
                    b'"' => self.string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        return whole(self);
                    }
                    _ => self.scalar = self.depth == 0,
                }
            }
        }
        None
    }
}

impl Boundary for ValueEnds {
    const NAME: &'static str = "JSON value";

    fn find(&mut self, more: &[u8]) -> Option<usize> {
        self.found_start = None;
        let mut index = 0;
        while index < more.len() {
            if self.string && !self.escaped {
                let Some(skipped) = memchr::memchr2(b'"', b'\\', &more[index..]) else { break };
                index += skipped;
            }
            if let Some(end) = self.step(more[index], index)
                && !self.trailing
            {
                self.scalar = false;
                self.before = 0;
                self.found_start = self.start.take();
                return Some(end);
            }
            index += 1;
        }
        self.before += more.len();
        None
    }

    fn offset_step(&self) -> u64 {
        1
    }

    fn trim(&self, piece: &[u8]) -> Range<usize> {
        let start = self.found_start.or(self.start).unwrap_or(piece.len());
        start.min(piece.len())..piece.len()
    }

    fn unfinished(&self) -> Option<String> {
        if self.trailing {
            Some(
                "unexpected content after the end of the JSON array (for one array per line, set format: jsonl)".into(),
            )
        } else if self.depth > 0 || self.string {
            Some("the last JSON value is incomplete (the file is truncated, or a bracket or a quote is missing)".into())
        } else if self.array == Some(true) && !self.closed {
            Some("the JSON array is incomplete (the file is truncated, or its last bracket is missing)".into())
        } else {
            None
        }
    }

    fn advice(&self) -> &'static str {
        "a bracket or a quote may be missing, or raise source.files.record_bytes_max"
    }
}

/// Reads one record per JSON value.
pub(crate) struct JsonReader(RecordSplitter<ValueEnds>);

impl JsonReader {
    pub(crate) fn new(stream: Stream, record_bytes_max: usize) -> Self {
        JsonReader(RecordSplitter::new(stream, ValueEnds::default(), record_bytes_max))
    }
}

impl Reader for JsonReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.0.next_body(|raw| (!raw.is_empty()).then_some(Ok(Payload::Json(raw)))))
    }

    fn input_bytes_read(&self) -> u64 {
        self.0.input_bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::stream;
    use super::super::tests::show;
    use super::*;

    #[test]
    fn values_of_an_array_or_one_after_the_other() {
        let check = |input: &str, expected: &[&str]| {
            assert_eq!(show(JsonReader::new(stream(input), 1000)), expected, "{input}");
        };
        check("", &[]);
        check(" [ ] \n", &[]);
        check("[{\"a\":1},{\"a\":[2]}]", &["1 {\"a\":1}", "2 {\"a\":[2]}"]);
        check("[\n  {\n \"a\": \"}]\\\"\" },\n {}\n]\n", &["1 {\n \"a\": \"}]\\\"\" }", "2 {}"]);
        check("{\n\"a\":1}\n{\"b\":\n{}}", &["1 {\n\"a\":1}", "2 {\"b\":\n{}}"]);
        check("[[1],2, \"x\",null]", &["1 [1]", "2 2", "3 \"x\"", "4 null"]);
        check("{}{}\n12 13", &["1 {}", "2 {}", "3 12", "4 13"]);
        let incomplete = "is incomplete (the file is truncated, or";
        check(
            "[{\"a\":1},{\"b",
            &[
                "1 {\"a\":1}",
                &format!("2 UNREADABLE ,{{\"b: the last JSON value {incomplete} a bracket or a quote is missing)"),
            ],
        );
        check("[{},", &["1 {}", &format!("2 UNREADABLE ,: the JSON array {incomplete} its last bracket is missing)")]);
        check(
            "[{}]\n[{}]\n",
            &[
                "1 {}",
                "2 UNREADABLE ]\n[{}]\n: unexpected content after the end of the JSON array \
             (for one array per line, set format: jsonl)",
            ],
        );
        check("} {}", &["1 }", "2 {}"]);
    }

    #[test]
    fn values_may_end_anywhere_in_a_block() {
        let one = format!("{{\"text\": \"{}\"}}", "y\\\"".repeat(300));
        let input = format!("[{}]", vec![one.as_str(); 5_000].join(" , "));
        let shown = show(JsonReader::new(stream(input), 10_000));
        assert_eq!(shown.len(), 5_000);
        assert!(shown.iter().enumerate().all(|(index, value)| *value == format!("{} {one}", index + 1)));
    }
}

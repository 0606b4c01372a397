//! A record a JSON value: the elements of one array, or values one after the other, over as many lines as they like.
//!
//! A value's extent follows from brackets and quotes alone, so a value of any shape is found without being parsed, and
//! what is wrong inside it is said where it is read. Offsets count values: several may stand on one line.

use std::ops::Range;

use super::cut::{Boundary, Cutter};
use super::reader::Reader;
use super::stream::Stream;
use crate::record::{Body, Payload};
use crate::source::SourceError;

/// Ends records where a value ends.
#[derive(Default)]
pub struct ValueEnds {
    /// Whether the values are elements of one array; unknown before the first byte.
    array: Option<bool>,
    /// The array's end was seen.
    closed: bool,
    /// Something stands behind the array's end.
    trailing: bool,
    depth: usize,
    string: bool,
    escaped: bool,
    /// Inside a number, a word, or something that is none.
    scalar: bool,
    /// Bytes of this piece seen in earlier calls.
    before: usize,
    /// Where the value begins in this piece.
    start: Option<usize>,
    /// The same of the piece whose end was found last.
    found_start: Option<usize>,
}

impl ValueEnds {
    fn step(&mut self, byte: u8, place: usize) -> Option<usize> {
        let whole = |ends: &Self| (ends.depth == 0 && ends.start.is_some()).then_some(place + 1);
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
            return Some(place);
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
                self.start.get_or_insert(self.before + place);
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
        let mut place = 0;
        while place < more.len() {
            if self.string && !self.escaped {
                let Some(skipped) = memchr::memchr2(b'"', b'\\', &more[place..]) else { break };
                place += skipped;
            }
            if let Some(end) = self.step(more[place], place)
                && !self.trailing
            {
                self.scalar = false;
                self.before = 0;
                self.found_start = self.start.take();
                return Some(end);
            }
            place += 1;
        }
        self.before += more.len();
        None
    }

    fn steps(&self) -> u64 {
        1
    }

    fn trim(&self, piece: &[u8]) -> Range<usize> {
        let start = self.found_start.or(self.start).unwrap_or(piece.len());
        start.min(piece.len())..piece.len()
    }

    fn unfinished(&self) -> Option<String> {
        if self.trailing {
            Some("something follows the end of the JSON array; for arrays line by line, set format: jsonl".into())
        } else if self.depth > 0 || self.string {
            Some("the last JSON value does not end: the file is cut off, or a bracket or a quote is missing".into())
        } else if self.array == Some(true) && !self.closed {
            Some("the JSON array does not end: the file is cut off, or its last bracket is missing".into())
        } else {
            None
        }
    }

    fn advice(&self) -> &'static str {
        "a bracket or a quote may be missing, or raise source.files.record_bytes_max"
    }
}

/// Reads JSON values.
pub struct Values(Cutter<ValueEnds>);

impl Values {
    pub fn new(stream: Stream, record_bytes_max: usize) -> Self {
        Values(Cutter::new(stream, ValueEnds::default(), record_bytes_max))
    }
}

impl Reader for Values {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.0.run(|raw| (!raw.is_empty()).then_some(Ok(Payload::Json(raw)))))
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
            assert_eq!(show(Values::new(stream(input), 1000)), expected, "{input}");
        };
        check("", &[]);
        check(" [ ] \n", &[]);
        check("[{\"a\":1},{\"a\":[2]}]", &["1 {\"a\":1}", "2 {\"a\":[2]}"]);
        check("[\n  {\n \"a\": \"}]\\\"\" },\n {}\n]\n", &["1 {\n \"a\": \"}]\\\"\" }", "2 {}"]);
        check("{\n\"a\":1}\n{\"b\":\n{}}", &["1 {\n\"a\":1}", "2 {\"b\":\n{}}"]);
        check("[[1],2, \"x\",null]", &["1 [1]", "2 2", "3 \"x\"", "4 null"]);
        check("{}{}\n12 13", &["1 {}", "2 {}", "3 12", "4 13"]);
        let cut_off = "does not end: the file is cut off, or";
        check(
            "[{\"a\":1},{\"b",
            &[
                "1 {\"a\":1}",
                &format!("2 UNREADABLE ,{{\"b: the last JSON value {cut_off} a bracket or a quote is missing"),
            ],
        );
        check("[{},", &["1 {}", &format!("2 UNREADABLE ,: the JSON array {cut_off} its last bracket is missing")]);
        check(
            "[{}]\n[{}]\n",
            &[
                "1 {}",
                "2 UNREADABLE ]\n[{}]\n: something follows the end of the JSON array; \
             for arrays line by line, set format: jsonl",
            ],
        );
        check("} {}", &["1 }", "2 {}"]);
    }

    #[test]
    fn values_may_end_anywhere_in_a_block() {
        let one = format!("{{\"text\": \"{}\"}}", "y\\\"".repeat(300));
        let input = format!("[{}]", vec![one.as_str(); 5_000].join(" , "));
        let shown = show(Values::new(stream(input), 10_000));
        assert_eq!(shown.len(), 5_000);
        assert!(shown.iter().enumerate().all(|(index, value)| *value == format!("{} {one}", index + 1)));
    }
}

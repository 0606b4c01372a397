//! A record a row: CSV and TSV under a header that names the fields.
//!
//! Rows are cut here, by the quoting rules of the csv crate, and taken apart by the csv crate itself. It would read a
//! row of any size into memory and forget the bytes that it came from; cut first, a row is bounded by `record_bytes_max`
//! and a bad one is handed on as it was written. A record's offset is that of its first line, so that it is shown as the
//! line that an editor shows, whatever line ends quoted fields hold.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use csv::{ByteRecord, StringRecord};

use super::cut::{Boundary, Cut, Cutter};
use super::lines::without_line_end;
use super::reader::{Reader, unreadable};
use super::stream::Stream;
use crate::record::{Body, Payload};
use crate::source::SourceError;

/// Where in a row the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: a second one is a quote in the text, anything else ends the quoting.
    QuoteInQuoted,
}

/// Ends rows at line feeds outside quotes.
struct RowEnds {
    delimiter: u8,
    place: Place,
    lines: u64,
    steps: u64,
}

impl Boundary for RowEnds {
    const NAME: &'static str = "row";

    fn find(&mut self, more: &[u8]) -> Option<usize> {
        for (index, &byte) in more.iter().enumerate() {
            self.place = match (self.place, byte) {
                (Place::Quoted, b'"') => Place::QuoteInQuoted,
                (Place::Quoted, b'\n') => {
                    self.lines += 1;
                    Place::Quoted
                }
                (Place::Quoted, _) => Place::Quoted,
                (_, b'\n') => {
                    self.steps = std::mem::take(&mut self.lines) + 1;
                    self.place = Place::FieldStart;
                    return Some(index + 1);
                }
                (Place::FieldStart | Place::QuoteInQuoted, b'"') => Place::Quoted,
                (_, byte) if byte == self.delimiter => Place::FieldStart,
                _ => Place::Plain,
            };
        }
        None
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn trim(&self, piece: &[u8]) -> Range<usize> {
        0..without_line_end(piece).len()
    }

    fn unfinished(&self) -> Option<String> {
        (self.place == Place::Quoted)
            .then(|| "a quote opens a field and none closes it until the end of the file".into())
    }

    fn advice(&self) -> &'static str {
        match self.place {
            Place::Quoted => "a quote may be missing, or raise source.files.record_bytes_max",
            _ => "shorten it, or raise source.files.record_bytes_max",
        }
    }
}

/// Hands the csv crate one row at a time.
#[derive(Default)]
struct Feed {
    row: Bytes,
    line_end: bool,
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.row.is_empty() && std::mem::take(&mut self.line_end) {
            self.row = Bytes::from_static(b"\n");
        }
        let read = self.row.len().min(out.len());
        self.row.copy_to_slice(&mut out[..read]);
        Ok(read)
    }
}

/// Takes rows apart.
struct Parser {
    delimiter: u8,
    reader: csv::Reader<Feed>,
}

impl Parser {
    fn new(delimiter: u8) -> Self {
        Parser { delimiter, reader: Parser::reader(delimiter) }
    }

    fn reader(delimiter: u8) -> csv::Reader<Feed> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(Feed::default())
    }

    fn row(&mut self, raw: Bytes, fields: usize) -> Result<ByteRecord, String> {
        let mut row = ByteRecord::with_capacity(raw.len(), fields + 1);
        *self.reader.get_mut() = Feed { row: raw, line_end: true };
        let cause = match self.reader.read_byte_record(&mut row) {
            Ok(true) => return Ok(row),
            Ok(false) => "it holds no field".to_string(),
            Err(error) => error.to_string(),
        };
        // The reader has seen an end, after which it would read nothing more.
        self.reader = Parser::reader(self.delimiter);
        Err(format!("cannot be read as a row: {cause}"))
    }
}

/// Reads rows.
pub struct Rows {
    cutter: Cutter<RowEnds>,
    parser: Parser,
    header: Option<Arc<StringRecord>>,
}

impl Rows {
    pub fn new(stream: Stream, delimiter: u8, record_bytes_max: usize) -> Self {
        let ends = RowEnds { delimiter, place: Place::FieldStart, lines: 0, steps: 0 };
        let cutter = Cutter::new(stream, ends, record_bytes_max);
        Rows { cutter, parser: Parser::new(delimiter), header: None }
    }

    /// Reads the header; without one, nothing after it can be understood.
    fn read_header(&mut self) -> Option<Body> {
        loop {
            let record = match self.cutter.next()? {
                Cut::Whole { raw, .. } if raw.is_empty() => continue,
                Cut::Whole { offset, raw } => match self.parser.row(raw.clone(), 0).and_then(header) {
                    Ok(header) => {
                        self.header = Some(Arc::new(header));
                        return None;
                    }
                    Err(cause) => unreadable(offset, &raw, format!("{cause}; no row of this file can be read")),
                },
                Cut::Unreadable(record) => record,
            };
            self.cutter.end();
            return Some(Body::Each(vec![record]));
        }
    }
}

impl Reader for Rows {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if self.header.is_none()
            && let Some(broken) = self.read_header()
        {
            return Ok(Some(broken));
        }
        let Some(header) = &self.header else { return Ok(None) };
        let parser = &mut self.parser;
        Ok(self.cutter.run(|raw| {
            if raw.is_empty() {
                return None;
            }
            Some(parser.row(raw, header.len()).and_then(|row| match (header.len(), row.len()) {
                (expected, found) if expected != found => {
                    Err(format!("expected {expected} fields as in the header, found {found}"))
                }
                _ => Ok(Payload::Row { header: header.clone(), row }),
            }))
        }))
    }

    fn input_bytes_read(&self) -> u64 {
        self.cutter.input_bytes_read()
    }
}

/// The header checked: every field has a name of its own.
fn header(row: ByteRecord) -> Result<StringRecord, String> {
    let header = StringRecord::from_byte_record(row)
        .map_err(|error| format!("the header is not UTF-8 ({}); convert the file to UTF-8", error.utf8_error()))?;
    if let Some(place) = header.iter().position(|name| name.trim().is_empty()) {
        let number = place + 1;
        return Err(format!("field {number} of the header has no name; give every column one (pandas: index=False)"));
    }
    if header.iter().any(|name| name.contains('\r')) {
        return Err("lines end in a carriage return alone; convert them: tr '\\r' '\\n' < FILE".into());
    }
    let twice = header.iter().enumerate().find(|(place, name)| header.iter().take(*place).any(|other| other == *name));
    match twice {
        Some((_, name)) => Err(format!("the header names `{name}` twice; give every column a name of its own")),
        None => Ok(header),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::stream;
    use super::super::tests::show;
    use super::*;

    #[test]
    fn rows_with_the_line_they_begin_on() {
        let check = |input: &str, expected: &[&str]| {
            assert_eq!(show(Rows::new(stream(input), b',', 60)), expected, "{input}");
        };
        check("", &[]);
        check("a,b\n", &[]);
        check("a,b\n1,2\n3,4", &["2 a=1|b=2", "3 a=3|b=4"]);
        check("\u{feff}a,b\r\n1,2\r\n\r\n3,4\r\n", &["2 a=1|b=2", "4 a=3|b=4"]);
        check("a,b\n\"x\n\"\"y\"\"\n\",2\n,\n", &["2 a=x\n\"y\"\n|b=2", "5 a=|b="]);
        check("a,b\nx\"y,\"p\"q\n", &["2 a=x\"y|b=pq"]);
        check("\"a\nb\",c\n1,2\n", &["3 a\nb=1|c=2"]);
        check(
            "a,b\n1\n1,2,3\n5,6\n",
            &[
                "2 UNREADABLE 1: expected 2 fields as in the header, found 1",
                "3 UNREADABLE 1,2,3: expected 2 fields as in the header, found 3",
                "4 a=5|b=6",
            ],
        );
        check(
            "a,b\n1,2\n\"x,3\n4,5\n",
            &[
                "2 a=1|b=2",
                "3 UNREADABLE \"x,3\n4,5\n: a quote opens a field and none closes it until the end of the file",
            ],
        );
    }

    #[test]
    fn a_header_must_name_every_field_once() {
        let check = |input: &[u8], expected: &str| {
            let shown = show(Rows::new(stream(input), b',', 60));
            assert_eq!(shown.len(), 1);
            assert!(shown[0].contains(expected), "{}", shown[0]);
        };
        check(b"a,,c\n1,2,3\n", "1 UNREADABLE a,,c: field 2 of the header has no name");
        check(b"\na,b,a\n1,2,3\n", "2 UNREADABLE a,b,a: the header names `a` twice");
        check(b"a\rb\rc\r", "lines end in a carriage return alone");
        check(b"a,\xff\n1,2\n", "the header is not UTF-8");
        check(b"\"a,b\n1,2\n", "1 UNREADABLE \"a,b\n1,2\n: a quote opens a field");
    }

    #[test]
    fn a_row_without_end_does_not_fill_the_memory() {
        let long = format!("a,b\n1,\"{}\n3,4", "x".repeat(2 << 20));
        let shown = show(Rows::new(stream(long), b',', 1000));
        assert_eq!(shown.len(), 1);
        assert!(shown[0].ends_with(
            "a row longer than record_bytes_max, which is 1000 bytes; \
             a quote may be missing, or raise source.files.record_bytes_max"
        ));
        let long = format!("a,b\n1,{}\n3,4", "x".repeat(2 << 20));
        let shown = show(Rows::new(stream(long), b',', 1000));
        assert_eq!((shown.len(), shown[1].as_str()), (2, "3 a=3|b=4"));
    }
}

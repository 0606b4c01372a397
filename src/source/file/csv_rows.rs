//! One record per row: CSV and TSV under a header that names the fields.
//!
//! This file splits the input into rows, by the quoting rules of the csv crate, and the csv crate splits a row into
//! fields. By itself the csv crate would read a row of any size into memory and would not keep its bytes. Split first,
//! a row is limited to `record_bytes_max`, and an invalid one is handed on as it was written. The offset of a record is
//! the number of its first line, so that errors show the line number that an editor shows, whatever line ends quoted
//! fields contain.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use csv::{ByteRecord, StringRecord};

use super::lines::without_line_end;
use super::reader::{Reader, unreadable};
use super::splitter::{Boundary, RecordSplitter, SplitRecord};
use super::stream::Stream;
use crate::record::{Body, Payload};
use crate::source::SourceError;

/// The state of the row before its next byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowState {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote inside a quoted field: a second quote stands for one quote, any other byte ends the quoted part.
    QuoteInQuoted,
}

/// Finds the ends of rows: line feeds outside quotes.
struct RowEnds {
    delimiter: u8,
    state: RowState,
    /// Line feeds inside the quoted fields of the current row.
    quoted_lines: u64,
    /// Lines of the row whose end was found last.
    row_lines: u64,
}

impl Boundary for RowEnds {
    const NAME: &'static str = "row";

    fn find(&mut self, more: &[u8]) -> Option<usize> {
        for (index, &byte) in more.iter().enumerate() {
            self.state = match (self.state, byte) {
                (RowState::Quoted, b'"') => RowState::QuoteInQuoted,
                (RowState::Quoted, b'\n') => {
                    self.quoted_lines += 1;
                    RowState::Quoted
                }
                (RowState::Quoted, _) => RowState::Quoted,
                (_, b'\n') => {
                    self.row_lines = std::mem::take(&mut self.quoted_lines) + 1;
                    self.state = RowState::FieldStart;
                    return Some(index + 1);
                }
                (RowState::FieldStart | RowState::QuoteInQuoted, b'"') => RowState::Quoted,
                (_, byte) if byte == self.delimiter => RowState::FieldStart,
                _ => RowState::Unquoted,
            };
        }
        None
    }

    fn offset_step(&self) -> u64 {
        self.row_lines
    }

    fn trim(&self, piece: &[u8]) -> Range<usize> {
        0..without_line_end(piece).len()
    }

    fn unfinished(&self) -> Option<String> {
        (self.state == RowState::Quoted).then(|| "a quoted field is not closed before the end of the file".into())
    }

    fn advice(&self) -> &'static str {
        match self.state {
            RowState::Quoted => "a quote may be missing, or raise source.files.record_bytes_max",
            _ => "shorten it, or raise source.files.record_bytes_max",
        }
    }
}

/// Feeds the csv crate one row at a time.
#[derive(Default)]
struct RowFeed {
    row: Bytes,
    /// Whether a line end is still to follow the row.
    line_end: bool,
}

impl Read for RowFeed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.row.is_empty() && std::mem::take(&mut self.line_end) {
            self.row = Bytes::from_static(b"\n");
        }
        let read = self.row.len().min(out.len());
        self.row.copy_to_slice(&mut out[..read]);
        Ok(read)
    }
}

/// Splits a row into fields.
struct RowParser {
    delimiter: u8,
    reader: csv::Reader<RowFeed>,
}

impl RowParser {
    fn new(delimiter: u8) -> Self {
        RowParser { delimiter, reader: RowParser::reader(delimiter) }
    }

    fn reader(delimiter: u8) -> csv::Reader<RowFeed> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(RowFeed::default())
    }

    /// `raw` is one row without its line end; `fields` is the expected number of fields, to reserve memory.
    fn row(&mut self, raw: Bytes, fields: usize) -> Result<ByteRecord, String> {
        let mut row = ByteRecord::with_capacity(raw.len(), fields + 1);
        *self.reader.get_mut() = RowFeed { row: raw, line_end: true };
        let cause = match self.reader.read_byte_record(&mut row) {
            Ok(true) => return Ok(row),
            Ok(false) => "it has no fields".to_string(),
            Err(error) => error.to_string(),
        };
        // The csv reader has seen an end of input and would read nothing more, so it is replaced.
        self.reader = RowParser::reader(self.delimiter);
        Err(format!("invalid row: {cause}"))
    }
}

/// Reads one record per row.
pub(crate) struct DelimitedReader {
    splitter: RecordSplitter<RowEnds>,
    parser: RowParser,
    header: Option<Arc<StringRecord>>,
}

impl DelimitedReader {
    /// `delimiter` is the byte between two fields.
    pub(crate) fn new(stream: Stream, delimiter: u8, record_bytes_max: usize) -> Self {
        let ends = RowEnds { delimiter, state: RowState::FieldStart, quoted_lines: 0, row_lines: 0 };
        let splitter = RecordSplitter::new(stream, ends, record_bytes_max);
        DelimitedReader { splitter, parser: RowParser::new(delimiter), header: None }
    }

    /// Reads the header. If it is invalid, returns the only record of the file, an unreadable one.
    fn read_header(&mut self) -> Option<Body> {
        loop {
            let record = match self.splitter.next()? {
                SplitRecord::Whole { raw, .. } if raw.is_empty() => continue,
                SplitRecord::Whole { offset, raw } => match self.parser.row(raw.clone(), 0).and_then(header) {
                    Ok(header) => {
                        self.header = Some(Arc::new(header));
                        return None;
                    }
                    Err(cause) => unreadable(offset, &raw, format!("{cause}; without a header no row can be read")),
                },
                SplitRecord::Unreadable(record) => record,
            };
            self.splitter.end();
            return Some(Body::Each(vec![record]));
        }
    }
}

impl Reader for DelimitedReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if self.header.is_none()
            && let Some(unreadable) = self.read_header()
        {
            return Ok(Some(unreadable));
        }
        let Some(header) = &self.header else { return Ok(None) };
        let parser = &mut self.parser;
        Ok(self.splitter.next_body(|raw| {
            if raw.is_empty() {
                return None;
            }
            Some(parser.row(raw, header.len()).and_then(|row| match (header.len(), row.len()) {
                (expected, found) if expected != found => {
                    Err(format!("found {found} fields; expected {expected} as in the header"))
                }
                _ => Ok(Payload::Row { header: header.clone(), row }),
            }))
        }))
    }

    fn input_bytes_read(&self) -> u64 {
        self.splitter.input_bytes_read()
    }
}

/// Checks the header: every field has a name, and no two have the same.
///
/// # Errors
/// A sentence that says what is wrong with the header.
fn header(row: ByteRecord) -> Result<StringRecord, String> {
    let header = StringRecord::from_byte_record(row)
        .map_err(|error| format!("header: not UTF-8: {}; expected UTF-8 (convert the file)", error.utf8_error()))?;
    if let Some(index) = header.iter().position(|name| name.trim().is_empty()) {
        let number = index + 1;
        return Err(format!("header: field {number} has no name; expected one for every field (pandas: index=False)"));
    }
    if header.iter().any(|name| name.contains('\r')) {
        return Err(
            "lines end in a carriage return alone; expected line feeds (convert the file: tr '\\r' '\\n' < FILE)"
                .into(),
        );
    }
    let duplicate =
        header.iter().enumerate().find(|(index, name)| header.iter().take(*index).any(|other| other == *name));
    match duplicate {
        Some((_, name)) => {
            Err(format!("header: found the name {name:?} twice; expected a different name for every field"))
        }
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
            assert_eq!(show(DelimitedReader::new(stream(input), b',', 60)), expected, "{input}");
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
                "2 UNREADABLE 1: found 1 fields; expected 2 as in the header",
                "3 UNREADABLE 1,2,3: found 3 fields; expected 2 as in the header",
                "4 a=5|b=6",
            ],
        );
        check(
            "a,b\n1,2\n\"x,3\n4,5\n",
            &["2 a=1|b=2", "3 UNREADABLE \"x,3\n4,5\n: a quoted field is not closed before the end of the file"],
        );
    }

    #[test]
    fn a_header_must_name_every_field_once() {
        let check = |input: &[u8], expected: &str| {
            let shown = show(DelimitedReader::new(stream(input), b',', 60));
            assert_eq!(shown.len(), 1);
            assert!(shown[0].contains(expected), "{}", shown[0]);
        };
        check(b"a,,c\n1,2,3\n", "1 UNREADABLE a,,c: header: field 2 has no name");
        check(b"\na,b,a\n1,2,3\n", "2 UNREADABLE a,b,a: header: found the name \"a\" twice");
        check(b"a\rb\rc\r", "lines end in a carriage return alone");
        check(b"a,\xff\n1,2\n", "header: not UTF-8");
        check(b"\"a,b\n1,2\n", "1 UNREADABLE \"a,b\n1,2\n: a quoted field is not closed");
    }

    #[test]
    fn a_row_without_end_does_not_fill_the_memory() {
        let long = format!("a,b\n1,\"{}\n3,4", "x".repeat(2 << 20));
        let shown = show(DelimitedReader::new(stream(long), b',', 1000));
        assert_eq!(shown.len(), 1);
        assert!(shown[0].ends_with(
            "the row is too long; expected at most 1000 bytes \
             (a quote may be missing, or raise source.files.record_bytes_max)"
        ));
        let long = format!("a,b\n1,{}\n3,4", "x".repeat(2 << 20));
        let shown = show(DelimitedReader::new(stream(long), b',', 1000));
        assert_eq!((shown.len(), shown[1].as_str()), (2, "3 a=3|b=4"));
    }
}

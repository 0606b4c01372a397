//! A whole file of plain text as one record, of at most `record_bytes_max`.

use std::io::Read;

use bytes::Bytes;

use super::cut::byte_order_mark;
use super::reader::{Reader, unreadable};
use super::stream::Stream;
use crate::record::{Body, Payload, Record};
use crate::source::SourceError;

/// Reads one document.
pub struct Document {
    stream: Stream,
    record_bytes_max: usize,
    done: bool,
}

impl Document {
    pub fn new(stream: Stream, record_bytes_max: usize) -> Self {
        Document { stream, record_bytes_max, done: false }
    }

    /// `None` for an empty file, which holds no text.
    fn record(&mut self) -> Option<Record> {
        let mut all = Vec::new();
        // One byte more than allowed, to see whether there is more; three for the mark, which does not count.
        let most = (self.record_bytes_max as u64).saturating_add(4);
        let read = (&mut self.stream).take(most).read_to_end(&mut all);
        let mark = match (byte_order_mark(&all), read) {
            (Err(cause), _) => return Some(unreadable(0, &all, cause)),
            (_, Err(error)) => return Some(unreadable(0, &all, error.to_string())),
            (Ok(mark), Ok(_)) => mark,
        };
        let text = Bytes::from(all).slice(mark..);
        if text.len() > self.record_bytes_max {
            let max = self.record_bytes_max;
            let cause = format!(
                "a document longer than record_bytes_max, which is {max} bytes; \
                 split it, read it by lines (format: text), or raise source.files.record_bytes_max"
            );
            return Some(unreadable(0, &text, cause));
        }
        (!text.is_empty()).then_some(Record::new(0, Payload::Text(text)))
    }
}

impl Reader for Document {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        Ok(self.record().map(|record| Body::Each(vec![record])))
    }

    fn input_bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::stream;
    use super::super::tests::show;
    use super::*;

    #[test]
    fn a_file_is_a_record() {
        let check = |input: &[u8], expected: &[&str]| {
            assert_eq!(show(Document::new(stream(input), 10)), expected);
        };
        check(b"", &[]);
        check(b"\xef\xbb\xbf", &[]);
        check(b"one\r\ntwo\n", &["1 one\r\ntwo\n"]);
        check(b"\xef\xbb\xbf1234567890", &["1 1234567890"]);
        check(
            b"12345678901",
            &["1 UNREADABLE 12345678901: a document longer than record_bytes_max, which is 10 bytes; \
               split it, read it by lines (format: text), or raise source.files.record_bytes_max"],
        );
    }
}

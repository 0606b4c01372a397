//! One record per file: its whole text, of at most `record_bytes_max`.

use std::io::Read;

use bytes::Bytes;

use super::reader::{Reader, unreadable};
use super::splitter::byte_order_mark;
use super::stream::Stream;
use crate::record::{Body, Payload, Record};
use crate::source::SourceError;

/// Reads one document.
pub(crate) struct DocumentReader {
    stream: Stream,
    record_bytes_max: usize,
    done: bool,
}

impl DocumentReader {
    pub(crate) fn new(stream: Stream, record_bytes_max: usize) -> Self {
        DocumentReader { stream, record_bytes_max, done: false }
    }

    /// The document, or `None` for an empty file.
    fn record(&mut self) -> Option<Record> {
        let mut all = Vec::new();
        // One byte more than allowed shows that the text is too long; three are for the byte order mark, which does not
        // count.
        let limit = (self.record_bytes_max as u64).saturating_add(4);
        let read = (&mut self.stream).take(limit).read_to_end(&mut all);
        let mark = match (byte_order_mark(&all), read) {
            (Err(cause), _) => return Some(unreadable(0, &all, cause)),
            (_, Err(error)) => return Some(unreadable(0, &all, error.to_string())),
            (Ok(mark), Ok(_)) => mark,
        };
        let text = Bytes::from(all).slice(mark..);
        if text.len() > self.record_bytes_max {
            let max = self.record_bytes_max;
            let cause = format!(
                "the document is too long; expected at most {max} bytes \
                 (split it, read it by lines with format: text, or raise source.files.record_bytes_max)"
            );
            return Some(unreadable(0, &text, cause));
        }
        (!text.is_empty()).then_some(Record::new(0, Payload::Text(text)))
    }
}

impl Reader for DocumentReader {
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
            assert_eq!(show(DocumentReader::new(stream(input), 10)), expected);
        };
        check(b"", &[]);
        check(b"\xef\xbb\xbf", &[]);
        check(b"one\r\ntwo\n", &["1 one\r\ntwo\n"]);
        check(b"\xef\xbb\xbf1234567890", &["1 1234567890"]);
        check(
            b"12345678901",
            &["1 UNREADABLE 12345678901: the document is too long; expected at most 10 bytes \
               (split it, read it by lines with format: text, or raise source.files.record_bytes_max)"],
        );
    }
}

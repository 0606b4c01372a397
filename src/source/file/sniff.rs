//! Which format an input has: by its extension inside the suffix of its compression, else by its first bytes.

use std::path::Path;

use super::cut::{Boundary, byte_order_mark};
use super::format::Format;
use super::json::ValueEnds;

/// How much of an input is looked at: more than the first line of nearly all JSON lines.
pub const HEAD_BYTES: usize = 64 << 10;

/// Suffixes that say how a file is compressed, which is left to its content, and hide the extension that says what is
/// in it.
const COMPRESSION_SUFFIXES: [&str; 6] = ["gz", "gzip", "zst", "zstd", "bz2", "bzip2"];

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Its format.
    Format(Format),
    /// `.json`, which may be lines, an array, or one document over many lines.
    SomeJson,
    Nothing,
}

/// What the extension says.
pub fn by_name(path: &Path) -> Named {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut parts = name.rsplit('.');
    let mut extension = parts.next().unwrap_or_default();
    if COMPRESSION_SUFFIXES.contains(&extension) {
        extension = parts.next().unwrap_or_default();
    }
    if parts.next().is_none() {
        return Named::Nothing;
    }
    Named::Format(match extension {
        "jsonl" | "ndjson" => Format::Jsonl,
        "json" => return Named::SomeJson,
        "txt" | "text" => Format::Text,
        "md" | "markdown" | "rst" | "html" | "htm" | "tex" | "adoc" | "org" => Format::Document,
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        "parquet" | "pq" => Format::Parquet,
        "arrow" | "arrows" | "feather" | "ipc" => Format::Arrow,
        _ => return Named::Nothing,
    })
}

/// The format, by name and the first (decompressed) bytes. What no text begins with is believed before the name.
pub fn format(named: Named, head: &[u8]) -> Format {
    if head.starts_with(b"PAR1") || head.starts_with(b"PARE") {
        return Format::Parquet;
    }
    // An Arrow file; and a stream, whose first message is preceded by a marker.
    if head.starts_with(b"ARROW1") || head.starts_with(b"\xff\xff\xff\xff") {
        return Format::Arrow;
    }
    let head = head[byte_order_mark(head).unwrap_or(0)..].trim_ascii_start();
    let array = || head[1..].trim_ascii_start().first().is_none_or(|&byte| matches!(byte, b'{' | b']'));
    match named {
        Named::Format(format) => format,
        Named::SomeJson => some_json(head),
        // "[1] A footnote" is text.
        Named::Nothing => match head.first() {
            Some(b'{') => some_json(head),
            Some(b'[') if array() => some_json(head),
            _ => Format::Text,
        },
    }
}

/// JSON lines if the first value is alone on the first line.
fn some_json(head: &[u8]) -> Format {
    if head.starts_with(b"[") {
        return Format::Json;
    }
    let Some(line_end) = memchr::memchr(b'\n', head) else { return Format::Jsonl };
    match ValueEnds::default().find(head) {
        Some(end) if end <= line_end => Format::Jsonl,
        _ => Format::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents() {
        let check = |name: &str, head: &[u8], expected: Format| {
            assert_eq!(format(by_name(Path::new(name)), head), expected, "{name}");
        };
        check("a.jsonl", b"anything", Format::Jsonl);
        check("a.NDJSON.gz", b"", Format::Jsonl);
        check("a.v2.csv.zst", b"", Format::Csv);
        check("notes.md", b"{", Format::Document);
        check("a.txt", b"{\"a\":1}\n", Format::Text);
        check("a.json", b"{\"a\":1}\n{\"a\":2}\n", Format::Jsonl);
        check("a.json", b"{\"a\":1}", Format::Jsonl);
        check("a.json", b"{\n  \"a\":1\n}\n", Format::Json);
        check("a.json", b"\xef\xbb\xbf\n[\n", Format::Json);
        check("a.jsonl", b"PAR1....", Format::Parquet);
        check("data", b"ARROW1\0\0", Format::Arrow);
        check("data", b"\xff\xff\xff\xff\x10\0\0\0", Format::Arrow);
        check("data", b" {\"a\": 1}\n", Format::Jsonl);
        check("data", b"[ {\"a\": 1}, ", Format::Json);
        check("data", b"[1] A footnote", Format::Text);
        check("data", b"plain", Format::Text);
        check("-", b"", Format::Text);
        check("csv", b"plain", Format::Text);
        check("gz", b"plain", Format::Text);
    }
}

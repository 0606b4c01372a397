//! Detects the format of an input: by its extension, without the suffix of a compression, else by its first bytes.

use std::path::Path;

use super::format::Format;
use super::json::ValueEnds;
use super::splitter::{Boundary, byte_order_mark};

/// How many bytes of an input are looked at: more than the first line of nearly all JSON lines files.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Suffixes of compressions. They are only removed, to find the extension of the format; the compression itself is
/// detected by content.
const COMPRESSION_SUFFIXES: [&str; 6] = ["gz", "gzip", "zst", "zstd", "bz2", "bzip2"];

/// What the extension of a file tells about its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedFormat {
    /// The format.
    Known(Format),
    /// `.json`: JSON lines, an array, or one document of several lines.
    Json,
    /// Nothing.
    Unknown,
}

/// What the extension of `path` tells.
pub(crate) fn by_name(path: &Path) -> NamedFormat {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut parts = name.rsplit('.');
    let mut extension = parts.next().unwrap_or_default();
    if COMPRESSION_SUFFIXES.contains(&extension) {
        extension = parts.next().unwrap_or_default();
    }
    if parts.next().is_none() {
        return NamedFormat::Unknown;
    }
    NamedFormat::Known(match extension {
        "jsonl" | "ndjson" => Format::Jsonl,
        "json" => return NamedFormat::Json,
        "txt" | "text" => Format::Text,
        "md" | "markdown" | "rst" | "html" | "htm" | "tex" | "adoc" | "org" => Format::Document,
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        "parquet" | "pq" => Format::Parquet,
        "arrow" | "arrows" | "feather" | "ipc" => Format::Arrow,
        _ => return NamedFormat::Unknown,
    })
}

/// The format, by the extension and the first (decompressed) bytes. Magic numbers that no text begins with count more
/// than the extension.
pub(crate) fn detect(named: NamedFormat, head: &[u8]) -> Format {
    if head.starts_with(b"PAR1") || head.starts_with(b"PARE") {
        return Format::Parquet;
    }
    // The magic number of an Arrow file, and the marker before the first message of an Arrow stream.
    if head.starts_with(b"ARROW1") || head.starts_with(b"\xff\xff\xff\xff") {
        return Format::Arrow;
    }
    let head = head[byte_order_mark(head).unwrap_or(0)..].trim_ascii_start();
    let array = || head[1..].trim_ascii_start().first().is_none_or(|&byte| matches!(byte, b'{' | b']'));
    match named {
        NamedFormat::Known(format) => format,
        NamedFormat::Json => json_or_jsonl(head),
        // "[1] A footnote" is text, not JSON.
        NamedFormat::Unknown => match head.first() {
            Some(b'{') => json_or_jsonl(head),
            Some(b'[') if array() => json_or_jsonl(head),
            _ => Format::Text,
        },
    }
}

/// JSON lines if the first value ends on the first line, else JSON.
fn json_or_jsonl(head: &[u8]) -> Format {
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
            assert_eq!(detect(by_name(Path::new(name)), head), expected, "{name}");
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

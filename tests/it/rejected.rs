//! Records that cannot be embedded: the run stops at the first, or goes on with them in the dead letters.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use predicates::prelude::*;
use serde_json::Value;

use super::cli::{encode, folder_with, rows};

const GOOD: &[u8] = b"{\"text\":\"good\"}\n";

/// The file's one bad record stops the run at `position` for `cause`; with dead letters the good ones go through, and the
/// bad one is there as `raw`, or not at all where `raw` is `None`.
fn check(name: &str, content: &[u8], position: &str, cause: &str, raw: Option<&[u8]>, good: usize) {
    let folder = folder_with(&[]);
    fs::write(folder.path().join(name), content).expect("the input");
    let stopped = predicate::str::contains(format!("error: {position}: ")).and(predicate::str::contains(cause));
    encode(folder.path(), &[name], "out.arrow").assert().code(1).stderr(stopped);
    assert!(!folder.path().join("out.arrow").exists());
    encode(folder.path(), &[name], "out.arrow")
        .args(["--dead-letter", "bad.jsonl"])
        .assert()
        .success()
        .stderr(predicate::str::contains("1 record rejected"));
    assert_eq!(rows(&folder.path().join("out.arrow")).len(), good, "{name}");
    let letters = letters(&folder.path().join("bad.jsonl"));
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["position"], position);
    assert!(letters[0]["cause"].as_str().unwrap_or_default().contains(cause), "{}", letters[0]);
    let found = match (&letters[0]["raw"], &letters[0]["raw_base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(text)) => BASE64_STANDARD.decode(text).expect("base64"),
        _ => panic!("no raw record in {}", letters[0]),
    };
    if let Some(raw) = raw {
        assert_eq!(found, raw, "{name}");
    }
}

fn letters(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the dead letters");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn around(bad: &[u8]) -> Vec<u8> {
    [GOOD, bad, b"\n", GOOD].concat()
}

#[test]
fn bad_json_lines() {
    let line = |bad: &[u8], cause: &str| check("a.jsonl", &around(bad), "a.jsonl:2", cause, Some(bad), 2);
    line(b"{\"text\": \"broken", "not a JSON object");
    line(b"[1, 2]", "not a JSON object");
    line(b"{\"text\":\"a\"} {\"text\":\"b\"}", "not a JSON object");
    line(
        b"{\"title\":\"a\",\"body\":\"b\"}",
        "field `text`: missing; expected a string (the record has `body`, `title`)",
    );
    line(b"{\"text\": 12}", "field `text`: found the number 12; expected a string");
    line(b"{\"text\": null}", "field `text`: found null; expected a string");
    line(b"{\"text\": \"a\xff\xfe\"}", "not UTF-8: found an invalid byte at 12");
}

#[test]
fn bad_text_and_tables() {
    check("a.txt", b"fine\nbad \xff line\nfine\n", "a.txt:2", "not UTF-8", Some(b"bad \xff line"), 2);
    check("a.csv", b"text,n\nfine,1\nonly one\nfine,2\n", "a.csv:3", "field", Some(b"only one"), 2);
    check("b.csv", b"text,n\nfine,1\nbad \xff,3\nfine,2\n", "b.csv:3", "not UTF-8", Some(b"bad \xff,3\n"), 2);
}

#[test]
fn a_kept_value_of_another_type() {
    let folder =
        folder_with(&[("a.jsonl", "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\",\"n\":\"many\"}\n{\"text\":\"c\"}\n")]);
    encode(folder.path(), &["a.jsonl"], "out.arrow")
        .args(["--keep", "n:int64", "--dead-letter", "bad.jsonl"])
        .assert()
        .success();
    let found = rows(&folder.path().join("out.arrow"));
    assert_eq!(
        found.iter().map(|row| row["id"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        ["a.jsonl:1", "a.jsonl:3"]
    );
    assert_eq!(letters(&folder.path().join("bad.jsonl"))[0]["source_offset"], 1);
}

#[test]
fn a_truncated_gzip() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let lines: String =
        (0..5_000).map(|index| format!("{{\"text\":\"line {index} {}\"}}\n", index * 7919 % 104_729)).collect();
    encoder.write_all(lines.as_bytes()).expect("compressed");
    let whole = encoder.finish().expect("compressed");
    let folder = folder_with(&[("b.jsonl", "{\"text\":\"after\"}\n")]);
    fs::write(folder.path().join("a.jsonl.gz"), &whole[..whole.len() / 2]).expect("the input");
    encode(folder.path(), &["a.jsonl.gz", "b.jsonl"], "out.arrow")
        .assert()
        .code(1)
        .stderr(predicate::str::contains("a.jsonl.gz:").and(predicate::str::contains("gzip")));
    encode(folder.path(), &["a.jsonl.gz", "b.jsonl"], "out.arrow")
        .args(["--dead-letter", "bad.jsonl"])
        .assert()
        .success();
    let rows = rows(&folder.path().join("out.arrow"));
    let letters = letters(&folder.path().join("bad.jsonl"));
    assert_eq!(letters.len(), 1);
    // Every whole line before the break is there, and so is the next file.
    let lines_before = letters[0]["source_offset"].as_u64().expect("an offset") as usize;
    assert!(lines_before > 1_000, "{lines_before}");
    assert_eq!(rows.len(), lines_before + 1);
    assert_eq!(rows[lines_before]["text"], "after");
}

#[test]
fn every_record_is_counted_once() {
    let lines: String = (0..1_000)
        .map(|index| if index % 10 == 3 { "{bad\n".to_string() } else { format!("{{\"text\":\"good {index}\"}}\n") })
        .collect();
    let folder = folder_with(&[("a.jsonl", &lines)]);
    let assert = encode(folder.path(), &["a.jsonl"], "out.arrow")
        .args(["--dead-letter", "bad.jsonl", "--summary", "json"])
        .assert()
        .success();
    let summary: Value = serde_json::from_slice(&assert.get_output().stderr).expect("one JSON object");
    assert_eq!(
        (&summary["records"], &summary["rows"], &summary["dead_lettered"]),
        (&1_000.into(), &900.into(), &100.into())
    );
    let offsets =
        letters(&folder.path().join("bad.jsonl")).iter().map(|l| l["source_offset"].as_u64()).collect::<Vec<_>>();
    assert_eq!(offsets, (0..100).map(|index| Some(index * 10 + 3)).collect::<Vec<_>>());
}

//! Helpers that the tests of all readers share, and tests of the source as a whole.

use std::fs;

use super::file_source::shown_bytes;
use super::reader::{BODY_RECORDS_MAX, Reader};
use super::stream::tests::gzip;
use super::*;
use crate::record::{Body, Payload, Record};

/// All records of a reader, one string each: its line number (offset + 1) and its content.
pub(crate) fn show(mut reader: impl Reader) -> Vec<String> {
    let mut shown = Vec::new();
    while let Some(body) = reader.next().expect("this machine is fine") {
        assert!(body.len() <= BODY_RECORDS_MAX, "a body has at most so many records");
        let Body::Each(records) = body else { panic!("these readers read records one by one") };
        for Record { offset, payload, .. } in records {
            let number = offset + 1;
            shown.push(match payload {
                Payload::Delete | Payload::Arrow(_) => panic!("only a message is one"),
                Payload::Json(raw) | Payload::Text(raw) => format!("{number} {}", String::from_utf8_lossy(&raw)),
                Payload::Unreadable { raw, cause } => {
                    format!("{number} UNREADABLE {}: {cause}", String::from_utf8_lossy(&raw))
                }
                Payload::Row { header, row } => {
                    let field = |(name, value)| format!("{name}={}", String::from_utf8_lossy(value));
                    format!("{number} {}", header.iter().zip(&row).map(field).collect::<Vec<_>>().join("|"))
                }
            });
        }
    }
    shown
}

/// A folder with these files, and a source that reads all of them.
fn source(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, FileSource) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let mut config = FilesConfig::default();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::write(&path, bytes).expect("it can be written");
        config.paths.push(path.display().to_string());
    }
    let source = FileSource::open(&config, &[]).expect("all can be read");
    (root, source)
}

/// The names of the inputs in the order in which they are read, each with its number of records.
fn drain(source: &mut FileSource) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    let mut read = 0;
    let mut next = || source.read_ahead.pop_front().map_or_else(|| source.next_records(), |read| Ok(Some(read)));
    while let Some(records) = next().expect("fine") {
        assert!(records.input_bytes_read >= read, "progress never goes back");
        read = records.input_bytes_read;
        let name = records.partition.name();
        let name = name.rsplit('/').next().unwrap_or_default().to_string();
        match counts.last_mut() {
            Some((last, count)) if *last == name => *count += records.body.len(),
            _ => counts.push((name, records.body.len())),
        }
    }
    counts
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{{\"text\": \"line {number}\"}}\n").into_bytes()).collect()
}

#[test]
fn the_first_records_are_seen_and_stay_to_be_sent() {
    let (_root, mut source) = source(&[("a.jsonl", Vec::new()), ("b.jsonl", lines(3_000)), ("c.jsonl", lines(2))]);
    let first = source.sample(false).expect("fine").expect("there are records");
    assert!((1_000..1_256).contains(&first.len()), "{}", first.len());
    assert_eq!(drain(&mut source), [("b.jsonl".to_string(), 3_000), ("c.jsonl".to_string(), 2)]);
}

#[test]
fn the_first_records_are_not_those_of_a_broken_input() {
    let mut cut = gzip(&lines(1));
    cut.truncate(20);
    let (_root, mut source) = source(&[("a.jsonl.gz", cut), ("b.jsonl", lines(2)), ("c.txt", b"a".to_vec())]);
    let first = source.sample(false).expect("fine").expect("there are records");
    assert_eq!(first.len(), 2);
    let expected = [("a.jsonl.gz", 1), ("b.jsonl", 2), ("c.txt", 1)].map(|(name, count)| (name.to_string(), count));
    assert_eq!(drain(&mut source), expected);
}

#[test]
fn nothing_but_empty_inputs_has_no_first_record() {
    let (_root, mut source) = source(&[("a.jsonl", Vec::new()), ("b.csv", b"a,b\n".to_vec())]);
    assert!(source.sample(false).expect("fine").is_none());
    assert_eq!(drain(&mut source), []);
}

#[test]
fn what_explain_shows() {
    let (_root, source) = source(&[("a.jsonl", lines(1)), ("b.jsonl", lines(1)), ("c.txt.gz", gzip(b"x\n"))]);
    let bytes = source.input_bytes_total().expect("all sizes are known");
    assert_eq!(source.describe(), format!("3 inputs, {bytes} bytes: 2 jsonl, 1 text (gzip)"));
    assert_eq!([0, 1023, 1024, 5 << 20].map(shown_bytes), ["0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB"]);
}

#[test]
fn a_wrong_setting_is_named() {
    let check = |config: FilesConfig, expected: &str| {
        let error = FileSource::open(&config, &[]).err().expect("it is wrong").to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let good = FilesConfig { paths: vec!["a".into()], ..Default::default() };
    check(FilesConfig::default(), "source.files.paths: found an empty list; expected at least one");
    check(
        FilesConfig { delimiter: Some('é'), ..good.clone() },
        "source.files.delimiter: found 'é'; expected one ASCII character",
    );
    check(FilesConfig { record_bytes_max: 0, ..good }, "source.files.record_bytes_max: ");
}

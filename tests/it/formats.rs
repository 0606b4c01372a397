//! Every file format, read back from files that other people's writers wrote: tests/data/formats.py makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use embedmill::internal::budget::Budget;
use embedmill::internal::record::{Body, Payload};
use embedmill::internal::source::file::{FileSource, FilesConfig, Format};
use embedmill::internal::source::{RecordSender, Source};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a source gave: each record's offset with its fields, or with why it has none.
type Found = Vec<(u64, Result<Map<String, Value>, String>)>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats")
}

fn config(path: &Path) -> FilesConfig {
    FilesConfig { paths: vec![path.display().to_string()], ..Default::default() }
}

/// Runs a source as the pipeline does: on a thread of its own, within a budget that is smaller than most inputs.
fn drain(config: &FilesConfig, columns: &[&str]) -> Found {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let source = Box::new(FileSource::open(config, &columns).expect("the input can be opened"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (sender, mut records) = mpsc::channel(1);
    let mut record_sender = RecordSender::new(
        runtime.handle().clone(),
        sender,
        Budget::new(1 << 20, 0, 0),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let reading = thread::spawn(move || source.run(&mut record_sender));
    let mut found = Vec::new();
    while let Some(run) = runtime.block_on(records.recv()) {
        found.extend((0..run.body.len()).map(|index| (run.body.offset(index), fields(&run.body, index))));
    }
    reading.join().expect("no input makes a reader panic").expect("no input stops the source");
    found
}

fn fields(body: &Body, index: usize) -> Result<Map<String, Value>, String> {
    let object = |raw: &[u8]| serde_json::from_slice(raw).map_err(|error| error.to_string());
    match body {
        Body::Table { .. } => object(&body.raw(index).expect("a row is no delete")),
        Body::Each(records) => match &records[index].payload {
            Payload::Json(raw) => object(raw),
            Payload::Text(raw) => Ok(Map::from_iter([("text".into(), String::from_utf8_lossy(raw).into())])),
            Payload::Row { header, row } => {
                let value = |value| Value::from(String::from_utf8_lossy(value));
                Ok(header.iter().zip(row).map(|(name, field)| (name.to_string(), value(field))).collect())
            }
            Payload::Unreadable { cause, .. } => Err(cause.clone()),
            Payload::Delete => Err("a delete".into()),
            Payload::Arrow(_) => Err("rows of a message".into()),
        },
        Body::Batch(_) => Err("rows of a message".into()),
    }
}

fn whole(found: Found) -> Vec<Map<String, Value>> {
    found.into_iter().map(|(_, fields)| fields.expect("the file is whole")).collect()
}

/// The records as Python wrote them, without their nulls.
fn written() -> Vec<Map<String, Value>> {
    let lines = fs::read_to_string(folder().join("records.jsonl")).expect("the samples are part of the repository");
    let record = |line: &str| {
        let mut fields: Map<String, Value> = serde_json::from_str(line).expect("Python wrote it");
        fields.retain(|_, value| !value.is_null());
        fields
    };
    lines.lines().map(record).collect()
}

#[test]
fn every_writers_file_holds_the_same_records() {
    let expected = written();
    assert_eq!(expected.len(), 7);
    let files = [
        "records.jsonl",
        "records.jsonl.gz",
        "records.jsonl.zst",
        "records.jsonl.bz2",
        "gzip-inside.jsonl",
        "members.jsonl.gz",
        "members.jsonl.zst",
        "members.jsonl.bz2",
        "crlf.jsonl",
        "records.parquet",
        "groups.parquet",
        "records.arrow",
        "records.arrows",
        "lz4.arrow",
        "zstd.arrow",
        "types.arrow",
    ];
    for file in files {
        let mut found = whole(drain(&config(&folder().join(file)), &[]));
        found.iter_mut().for_each(|fields| fields.retain(|_, value| !value.is_null()));
        assert_eq!(found, expected, "{file}");
    }
    for file in ["records.csv", "records.tsv"] {
        let found = whole(drain(&config(&folder().join(file)), &[]));
        // A CSV file knows neither nulls nor numbers.
        let as_string = |fields: &Map<String, Value>, name: &str| match fields.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        for name in ["id", "title", "text", "lang", "views", "updated"] {
            let column = |rows: &[Map<String, Value>]| -> Vec<String> {
                rows.iter().map(|fields| as_string(fields, name)).collect()
            };
            assert_eq!(column(&found), column(&expected), "{file}, {name}");
        }
    }
    let words = |fields: &Map<String, Value>| -> Vec<String> {
        fields["text"].as_str().unwrap_or_default().split_whitespace().map(str::to_string).collect()
    };
    let found = whole(drain(&config(&folder().join("records.txt")), &[]));
    assert_eq!(found.iter().map(words).collect::<Vec<_>>(), expected.iter().map(words).collect::<Vec<_>>());
}

#[test]
fn offsets_are_the_lines_and_rows_that_people_count() {
    let check = |file: &str, expected: [u64; 7]| {
        let offsets: Vec<u64> = drain(&config(&folder().join(file)), &[]).into_iter().map(|found| found.0).collect();
        assert_eq!(offsets, expected, "{file}");
    };
    check("records.jsonl", [0, 1, 2, 3, 4, 5, 6]);
    // It has an empty line, which no record is made of.
    check("crlf.jsonl", [0, 1, 2, 4, 5, 6, 7]);
    // Its header is line 0, and its third row goes over two lines.
    check("records.csv", [1, 2, 3, 5, 6, 7, 8]);
    check("groups.parquet", [0, 1, 2, 3, 4, 5, 6]);
    check("records.arrow", [0, 1, 2, 3, 4, 5, 6]);
    check("records.arrows", [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_whole_folder_in_one_go() {
    let found = drain(&config(&folder()), &["text"]);
    assert_eq!(whole(found).len(), 19 * 7);
}

#[test]
fn only_the_wanted_columns_of_a_parquet_file_are_read() {
    let found = whole(drain(&config(&folder().join("records.parquet")), &["text", "id"]));
    let names: Vec<&str> = found[0].keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "text"]);
    // With one missing, all are there, for the error that says which there are.
    let found = whole(drain(&config(&folder().join("records.parquet")), &["text", "body"]));
    assert_eq!(found[0].len(), 8);
}

#[test]
fn what_cannot_seek_is_read_all_the_same() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (file, wrapped) in [("records.parquet", "a.parquet"), ("records.arrow", "b.bin"), ("records.parquet", "c")] {
        let path = root.path().join(wrapped);
        fs::write(&path, gzip(&fs::read(folder().join(file)).expect("it is there"))).expect("it can be written");
        assert_eq!(whole(drain(&config(&path), &[])).len(), 7, "{file} in gzip");
    }
}

#[test]
fn a_json_array_and_pretty_printed_objects() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("a.json");
    let expected: Vec<Map<String, Value>> = written();
    let array = serde_json::to_string_pretty(&expected).expect("it is JSON");
    fs::write(&path, &array).expect("it can be written");
    assert_eq!(whole(drain(&config(&path), &[])), expected);
    let objects: Vec<String> = expected.iter().map(|object| format!("{:#}\n", json!(object))).collect();
    fs::write(&path, objects.concat()).expect("it can be written");
    assert_eq!(whole(drain(&config(&path), &[])), expected);
}

/// A file that is cut off gives what is whole before the cut, then one unreadable record that says so, whatever its
/// length.
#[test]
fn a_file_cut_off_anywhere_says_so_once() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let expected = whole(drain(&config(&folder().join("records.arrow")), &["text"]));
    for file in ["records.parquet", "groups.parquet", "records.arrow", "lz4.arrow", "types.arrow", "records.jsonl.gz"] {
        let bytes = fs::read(folder().join(file)).expect("it is there");
        let path = root.path().join(file);
        let mut config = config(&path);
        config.format = match Path::new(file).extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Format::Parquet,
            Some("arrow") => Format::Arrow,
            _ => Format::Jsonl,
        };
        // From eight bytes on the magic words are whole.
        for length in (8..bytes.len()).step_by(97).chain(bytes.len() - 8..bytes.len()) {
            fs::write(&path, &bytes[..length]).expect("it can be written");
            let mut found = drain(&config, &[]);
            let last = found.pop().expect("something is said");
            assert!(last.1.is_err(), "{file}, {length} bytes: {last:?}");
            assert_eq!(last.0, found.len() as u64, "it stands behind the whole records");
            let ids = |rows: &[Map<String, Value>]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
            assert_eq!(ids(&whole(found.clone())), ids(&expected[..found.len()]), "{file}, {length} bytes");
        }
    }
}

/// Whatever a byte is changed to, nothing panics and the source ends.
#[test]
fn a_changed_byte_makes_no_reader_panic() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let entries = fs::read_dir(folder()).expect("the samples are part of the repository");
    for entry in entries.map(|entry| entry.expect("it can be listed").path()) {
        let bytes = fs::read(&entry).expect("it can be read");
        let path = root.path().join(entry.file_name().expect("a file"));
        for (round, place) in (0..bytes.len()).step_by(STEP).enumerate() {
            let mut changed = bytes.clone();
            changed[place] ^= [0x01, 0x80, 0xff][round % 3];
            fs::write(&path, changed).expect("it can be written");
            // Changed magic bytes may name a compression that is refused.
            if FileSource::open(&config(&path), &[]).is_ok() {
                drain(&config(&path), &[]);
            }
        }
    }
}

/// A length that no memory holds ends no process: it is refused before it is asked for.
#[test]
fn an_absurd_length_anywhere_is_refused() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for file in ["lz4.arrow", "zstd.arrow", "records.arrows", "records.parquet"] {
        let bytes = fs::read(folder().join(file)).expect("it is there");
        let path = root.path().join(file);
        for place in (8..bytes.len() - 16).step_by(8) {
            let mut changed = bytes.clone();
            changed[place..place + 8].copy_from_slice(&0x6c20_2079_6172_7261_i64.to_le_bytes());
            fs::write(&path, changed).expect("it can be written");
            drain(&config(&path), &[]);
        }
    }
}

#[test]
fn arrow_streams_one_after_the_other() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("a.arrows");
    let once = fs::read(folder().join("records.arrows")).expect("it is there");
    fs::write(&path, [once.as_slice(), &once].concat()).expect("it can be written");
    let found = drain(&config(&path), &[]);
    assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), (0..14).collect::<Vec<_>>());
    assert_eq!(whole(found.clone())[7..], whole(found)[..7]);
}

/// Few enough bytes are changed to take seconds; with 1, which takes minutes, nothing else was found.
const STEP: usize = 41;

#[test]
fn a_line_of_fifty_megabytes_is_rejected_and_the_next_is_read() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("a.jsonl");
    let long = format!("{{\"text\": \"first\"}}\n{{\"text\": \"{}\"}}\n{{\"text\": \"last\"}}\n", "x".repeat(50 << 20));
    fs::write(&path, long).expect("it can be written");
    let found = drain(&FilesConfig { record_bytes_max: 1 << 20, ..config(&path) }, &[]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].1.as_ref().map(|fields| fields["text"].clone()), Ok("first".into()));
    let cause = found[1].1.as_ref().expect_err("it is too long");
    assert!(cause.starts_with("the line is too long; expected at most 1048576 bytes"), "{cause}");
    assert_eq!(found[2], (2, Ok(Map::from_iter([("text".to_string(), json!("last"))]))));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

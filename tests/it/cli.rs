//! The binary as a user drives it, with the hash encoder.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use assert_cmd::Command;
use embedmill::internal::output::read::OutputFile;
use predicates::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

pub fn embedmill(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("embedmill").expect("the binary is built");
    command.current_dir(folder).env_remove("EMBEDMILL_LOG").env("RUST_BACKTRACE", "0");
    command
}

/// A command in the background, with its standard streams for whoever waits for them.
pub fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    std::process::Command::new(assert_cmd::cargo::cargo_bin("embedmill"))
        .args(arguments)
        .env_remove("EMBEDMILL_LOG")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// `run pipeline.yaml` in the background.
pub fn spawn_run(folder: &Path, arguments: &[&str]) -> Child {
    spawn(folder, &[&["run", "pipeline.yaml"], arguments].concat())
}

/// `encode INPUTS -o OUTPUT` with the hash encoder.
pub fn encode(folder: &Path, inputs: &[&str], output: &str) -> Command {
    let mut command = embedmill(folder);
    command.arg("encode").args(inputs).args(["-o", output, "--backend", "hash"]);
    command
}

/// Rows of an output file as JSON.
pub fn rows(path: &Path) -> Vec<Value> {
    let mut file = OutputFile::open(path).expect("the output is whole");
    let mut rows = Vec::new();
    while let Some(table) = file.next_table() {
        let table = table.expect("the output can be read");
        rows.extend((0..table.rows()).map(|row| table.row_value(row)));
    }
    rows
}

pub fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    folder
}

fn documents(count: usize) -> String {
    let document = |index: usize| {
        let text = format!("document {index} {}", "about many things ".repeat(index * 31 % 17));
        json!({ "id": format!("d{index}"), "text": text, "views": index, "meta": { "lang": "en" } }).to_string() + "\n"
    };
    (0..count).map(document).collect()
}

#[test]
fn rows_are_whole_and_in_input_order() {
    let folder =
        folder_with(&[("b.jsonl", &documents(700)), ("a.jsonl", "{\"id\":\"first\",\"text\":\"\",\"views\":7}\n")]);
    encode(folder.path(), &["a.jsonl", "b.jsonl"], "out.arrow")
        .args(["--id", "id", "--keep", "views,/meta/lang:string"])
        .assert()
        .success()
        .stdout("")
        .stderr(predicate::str::contains("701 rows from 701 records"));
    let rows = rows(&folder.path().join("out.arrow"));
    assert_eq!(rows.len(), 701);
    assert_eq!((&rows[0]["id"], &rows[0]["views"], rows[0].get("lang")), (&json!("first"), &json!(7), None));
    for (index, row) in rows[1..].iter().enumerate() {
        assert_eq!(row["id"], json!(format!("d{index}")));
        assert_eq!((&row["views"], &row["lang"]), (&json!(index), &json!("en")));
        assert_eq!((&row["source"], &row["source_offset"]), (&json!("b.jsonl"), &json!(index)));
        assert_eq!(row["vector"].as_array().map(Vec::len), Some(384));
        let norm: f64 = row["vector"].as_array().expect("a vector").iter().flat_map(Value::as_f64).map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_on_any_number_of_workers() {
    let folder = folder_with(&[("a.jsonl", &documents(900))]);
    for format in ["arrow", "parquet"] {
        let bytes = |devices: &str, name: &str| {
            let output = format!("{name}.{format}");
            encode(folder.path(), &["a.jsonl"], &output)
                .args(["--device", devices, "--window-tokens", "2048"])
                .assert()
                .success();
            fs::read(folder.path().join(output)).expect("the output")
        };
        let once = bytes("cpu", "once");
        assert_eq!(once, bytes("cpu", "again"), "{format}");
        assert_eq!(once, bytes("cpu,cpu,cpu", "three"), "{format}");
    }
}

#[test]
fn a_folder_gets_files_named_by_position() {
    let folder = folder_with(&[("in/a.jsonl", &documents(300)), ("in/b.jsonl", &documents(300))]);
    let pipeline = "source: {files: {paths: [in/]}}\nmodel: {backend: hash}\nwindow: {records: 100}\n\
                    sink: {parquet: {path: out/, file_rows: 200}}\n";
    fs::write(folder.path().join("p.yaml"), pipeline).expect("a pipeline file");
    embedmill(folder.path()).args(["run", "p.yaml", "--summary", "none"]).assert().success();
    let mut names: Vec<String> = fs::read_dir(folder.path().join("out"))
        .expect("the output folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["000000-000000000000.parquet", "000000-000000000200.parquet", "000001-000000000100.parquet"]);
    let rows: Vec<Value> = names.iter().flat_map(|name| rows(&folder.path().join("out").join(name))).collect();
    let expected: Vec<String> = ["in/a.jsonl", "in/b.jsonl"]
        .iter()
        .flat_map(|path| (1..=300).map(move |line| format!("{path}:{line}")))
        .collect();
    assert_eq!(rows.iter().map(|row| row["id"].as_str().unwrap_or_default()).collect::<Vec<_>>(), expected);
}

#[test]
fn standard_input_and_output_work() {
    let folder = folder_with(&[]);
    let output = encode(folder.path(), &["-"], "-")
        .args(["--format", "text"])
        .write_stdin("one line\n\nand another\n")
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let rows: Vec<Value> = String::from_utf8_lossy(&output).lines().flat_map(serde_json::from_str).collect();
    let found: Vec<_> = rows.iter().map(|row| (row["id"].as_str(), row["text"].as_str())).collect();
    assert_eq!(found, [(Some("-:1"), Some("one line")), (Some("-:3"), Some("and another"))]);
}

#[test]
fn standard_input_is_told_by_its_content() {
    let folder = folder_with(&[]);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let rows = |name: &str| {
        let bytes = std::fs::read(data.join(name)).expect("a file of the tests");
        let mut command = encode(folder.path(), &["-"], "-");
        let output = command.args(["--id", "id", "--text", "text"]).write_stdin(bytes).assert().success();
        String::from_utf8_lossy(&output.get_output().stdout).into_owned()
    };
    let expected = rows("records.jsonl");
    assert!(expected.lines().count() > 1);
    for name in ["records.jsonl.zst", "records.parquet", "records.arrow", "records.arrows"] {
        assert!(rows(name) == expected, "{name}");
    }
}

#[test]
fn search_finds_what_inspect_shows() {
    let lines =
        "{\"text\":\"the cat sat on the mat\"}\n{\"text\":\"stock markets fell\"}\n{\"text\":\"a dog barked\"}\n";
    let folder = folder_with(&[("a.jsonl", lines)]);
    encode(folder.path(), &["a.jsonl"], "out.parquet").assert().success();
    embedmill(folder.path())
        .args(["search", "out.parquet", "cat and mat", "-k", "1"])
        .assert()
        .success()
        .stdout(predicate::str::contains("a.jsonl:1").and(predicate::str::contains("the cat sat on the mat")));
    embedmill(folder.path())
        .args(["inspect", "out.parquet"])
        .assert()
        .success()
        .stdout(predicate::str::contains("3 rows").and(predicate::str::contains("FixedSizeList(384 x Float32)")));
    let json = embedmill(folder.path()).args(["search", "out.parquet", "dog", "--json"]).assert().success();
    let hits: Vec<Value> =
        String::from_utf8_lossy(&json.get_output().stdout).lines().flat_map(serde_json::from_str).collect();
    assert_eq!(hits.len(), 3);
    assert_eq!(hits[0]["id"], json!("a.jsonl:3"));
}

#[test]
fn wrong_usage_is_refused_with_what_to_do() {
    let folder = folder_with(&[
        ("a.jsonl", &documents(2)),
        ("typo.yaml", "modle: {}\n"),
        ("model/config.json", "{}"),
        ("empty/.keep", ""),
    ]);
    let check = |args: &[&str], expected: &str| {
        let all = predicate::str::contains(expected).and(predicate::str::starts_with("error: "));
        embedmill(folder.path()).args(args).assert().code(2).stdout("").stderr(all);
        assert!(!folder.path().join("o.arrow").exists());
    };
    let hash = ["--backend", "hash"];
    let with = |args: &[&'static str]| [args, &hash].concat();
    check(&["validate", "typo.yaml"], "typo.yaml:1: modle: unknown key; did you mean `model`?");
    check(&["validate", "none.yaml"], "none.yaml: cannot be read: No such file");
    check(&["encode", "a.jsonl", "-o", "o.arrow"], "--model");
    check(&["encode", "a.jsonl", "-o", "o.arrow", "--model", "./nowhere"], "./nowhere");
    check(&["encode", "a.jsonl", "-o", "o.arrow", "--model", "model"], "model");
    check(&with(&["encode", "nowhere.jsonl", "-o", "o.arrow"]), "nowhere.jsonl");
    check(&with(&["encode", "*.csv", "-o", "o.arrow"]), "*.csv");
    check(&with(&["encode", "empty", "-o", "o.arrow"]), "empty");
    check(&with(&["encode", "a.jsonl", "-o", "o.txt"]), "--output: \"o.txt\": unknown format; expected");
    check(&with(&["encode", "a.jsonl", "-o", "no/such/o.arrow"]), "no/such/o.arrow: cannot be created");
    check(&with(&["encode", "a.jsonl", "-o", "o.arrow", "--device", "cuda:0"]), "cuda:0");
    check(&with(&["encode", "a.jsonl", "-o", "o.arrow", "--keep", "nothing"]), "expected a type, as in");
    check(
        &with(&["encode", "a.jsonl", "-o", "o.arrow", "--batch-tokens", "0"]),
        "--batch-tokens: found 0; expected at least 1",
    );
    check(&["inspect", "a.jsonl"], "expected an Arrow or Parquet file");
}

#[test]
fn the_schema_is_one_and_the_help_has_examples() {
    let folder = folder_with(&[]);
    let schema = embedmill(folder.path()).arg("schema").assert().success().get_output().stdout.clone();
    let schema: Value = serde_json::from_slice(&schema).expect("the schema is JSON");
    assert!(schema["properties"]["model"].is_object());
    for command in [
        "encode",
        "run",
        "calibrate",
        "validate",
        "check",
        "explain",
        "replay",
        "schema",
        "models",
        "inspect",
        "search",
        "top",
    ] {
        embedmill(folder.path())
            .args([command, "--help"])
            .assert()
            .success()
            .stdout(predicate::str::contains("Example"));
    }
}

#[test]
fn an_empty_file_gives_an_empty_output_and_a_warning() {
    let folder = folder_with(&[("a.jsonl", "")]);
    encode(folder.path(), &["a.jsonl"], "out.arrow")
        .assert()
        .success()
        .stderr(predicate::str::contains("warning: the input contains no records"));
    assert!(rows(&folder.path().join("out.arrow")).is_empty());
}

#[test]
fn a_full_disk_leaves_no_output() {
    let folder = folder_with(&[("a.jsonl", &documents(2_000))]);
    let binary = assert_cmd::cargo::cargo_bin("embedmill");
    // A limit on the size of files gives the same error in the middle of writing as a full disk does.
    let script =
        format!("trap '' XFSZ; ulimit -f 64; exec {} encode a.jsonl -o out.arrow --backend hash", binary.display());
    Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .assert()
        .code(1)
        .stderr(predicate::str::contains("out.arrow: cannot be written: File too large"));
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["a.jsonl"]);
}

#[test]
fn an_output_of_before_stays_until_the_new_one_is_whole() {
    let folder = folder_with(&[("a.jsonl", &documents(3)), ("bad.jsonl", "{\"text\":\"fine\"}\n{broken\n")]);
    encode(folder.path(), &["a.jsonl"], "out.arrow").assert().success();
    let before = fs::read(folder.path().join("out.arrow")).expect("the first output");
    encode(folder.path(), &["bad.jsonl"], "out.arrow")
        .assert()
        .code(1)
        .stderr(predicate::str::contains("bad.jsonl:2: "));
    assert_eq!(fs::read(folder.path().join("out.arrow")).expect("the first output"), before);
    let mut file = fs::OpenOptions::new().append(true).open(folder.path().join("a.jsonl")).expect("the input");
    writeln!(file, "{{\"text\":\"one more\"}}").expect("written");
    encode(folder.path(), &["a.jsonl"], "out.arrow").assert().success();
    assert_eq!(rows(&folder.path().join("out.arrow")).len(), 4);
}

#[test]
fn what_it_writes_it_reads() {
    let folder = folder_with(&[("a.jsonl", &documents(300))]);
    encode(folder.path(), &["a.jsonl"], "first.arrow").args(["--id", "id"]).assert().success();
    encode(folder.path(), &["first.arrow"], "second.arrow").args(["--id", "id"]).assert().success();
    let vectors = |name: &str| -> Vec<Value> {
        rows(&folder.path().join(name)).into_iter().map(|row| row["vector"].clone()).collect()
    };
    assert_eq!(vectors("first.arrow").len(), 300);
    assert_eq!(vectors("first.arrow"), vectors("second.arrow"));
    // An end mark in the middle, as a broken copy may have it: the footer knows better.
    let mut bytes = fs::read(folder.path().join("first.arrow")).expect("the output");
    let marks: Vec<usize> = (8..bytes.len() - 8).filter(|&at| bytes[at..at + 4] == [0xff; 4] && at % 8 == 0).collect();
    bytes[marks[1] + 4..marks[1] + 8].fill(0);
    fs::write(folder.path().join("broken.arrow"), bytes).expect("a file");
    let cause = predicate::str::contains("footer: found").and(predicate::str::contains("the file is corrupt"));
    encode(folder.path(), &["broken.arrow"], "third.arrow").assert().code(1).stderr(cause);
}

#[test]
fn an_output_replaces_neither_its_input_nor_what_is_no_file() {
    let folder = folder_with(&[("a.jsonl", &documents(3)), ("real.arrow", "")]);
    let path = |name: &str| folder.path().join(name);
    let refused = |output: &str, more: &[&str], part: &str| {
        let assert = encode(folder.path(), &["a.jsonl"], output).args(more).assert().code(2);
        assert.stderr(predicate::str::contains(part));
    };
    refused("./a.jsonl", &["--output-format", "arrow"], "a.jsonl is one of the inputs");
    refused("out.arrow", &["--dead-letter", "a.jsonl"], "a.jsonl is one of the inputs");
    assert_eq!(fs::read_to_string(path("a.jsonl")).expect("it is still there"), documents(3));
    let made = std::process::Command::new("mkfifo").arg(path("pipe.arrow")).status().expect("mkfifo is there");
    assert!(made.success());
    refused("pipe.arrow", &[], "found a device or a pipe");
    refused("nowhere/out.arrow", &[], "no such folder");
    std::os::unix::fs::symlink("real.arrow", path("link.arrow")).expect("a link");
    encode(folder.path(), &["a.jsonl"], "link.arrow").assert().success();
    assert!(path("link.arrow").is_symlink());
    assert_eq!(rows(&path("real.arrow")).len(), 3);
}

#[test]
fn kept_columns_lose_nothing_and_what_json_cannot_be_is_refused() {
    let lines = "{\"text\":\"a\",\"id\":1,\"n\":1,\"at\":\"2026-01-02T03:04:05Z\"}\n{\"text\":\"b\",\"id\":2,\"n\":1.5,\"at\":null}\n\
                 {\"text\":\"c\",\"id\":99999999999999999999,\"n\":3}\n";
    let folder = folder_with(&[("a.jsonl", lines)]);
    let pipeline = |keep: &str| {
        let text = format!(
            "source: {{files: {{paths: [a.jsonl]}}}}\nrecord: {{id: id, keep: [{keep}]}}\nmodel: {{backend: hash}}\n\
             sink: {{arrow: {{path: out.arrow}}}}\ndead_letter: {{path: bad.jsonl}}\n"
        );
        fs::write(folder.path().join("p.yaml"), text).expect("a file");
        embedmill(folder.path()).args(["run", "p.yaml"]).assert()
    };
    pipeline("{ field: n, type: int64 }, { field: at, type: 'Timestamp(Millisecond, Some(\"Europe/Berlin\"))' }")
        .success();
    assert_eq!(rows(&folder.path().join("out.arrow")).len(), 1);
    let bad = fs::read_to_string(folder.path().join("bad.jsonl")).expect("the dead letters");
    let causes = [
        "found 1.5; expected a whole number of 64 bits",
        "found 1e+20; expected a string or a whole number of 64 bits as id",
    ];
    causes.iter().for_each(|cause| assert!(bad.contains(cause), "{bad}"));
    pipeline("{ field: n, type: 'Dictionary(Int32, Utf8)' }").code(2).stderr(predicate::str::contains("from JSON"));
    pipeline("{ field: at, type: 'Timestamp(Millisecond, Some(\"nonsense\"))' }").code(2);
}

#[test]
fn a_file_that_may_not_grow_is_an_error_like_any_other() {
    let folder = folder_with(&[("a.jsonl", &documents(3_000))]);
    let binary = assert_cmd::cargo::cargo_bin("embedmill");
    let command = format!("ulimit -f 100; exec {} encode a.jsonl -o out.arrow --backend hash", binary.display());
    let output = Command::new("bash").args(["-c", &command]).current_dir(folder.path()).assert().code(1);
    output.stderr(predicate::str::contains("out.arrow: cannot be written: File too large"));
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

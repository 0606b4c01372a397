//! Several runs that share the files of one pipeline, as the pods of an Indexed Job do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use predicates::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::cli::{embedmill, folder_with, rows};

const PIPELINE: &str = "\
source: {files: {paths: [in/], shard: {index: '${JOB_COMPLETION_INDEX}', count: '${JOB_COMPLETION_COUNT}'}}}
record: {id: id, keep: [views]}
model: {backend: hash}
window: {records: 50}
sink: {arrow: {path: out/, file_rows: 100}}
dead_letter: {path: rejected.jsonl}
";

/// Five files; what the first says of `views` is what all must say, though the others hold only integers.
fn inputs() -> TempDir {
    let file = |name: usize, count: usize| {
        let line = |row: usize| {
            let views = if name == 0 { "0.5".into() } else { row.to_string() };
            format!("{{\"id\": \"{name}/{row}\", \"text\": \"row {row} of {name}\", \"views\": {views}}}\n")
        };
        let broken = if name == 3 { "{\"id\": 1}\n" } else { "" };
        (0..count).map(line).collect::<String>() + broken
    };
    let texts: Vec<(String, String)> = [120, 30, 0, 260, 70]
        .iter()
        .enumerate()
        .map(|(name, &count)| (format!("in/{name}.jsonl"), file(name, count)))
        .collect();
    let mut files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.push(("p.yaml", PIPELINE));
    folder_with(&files)
}

fn shard(folder: &Path, index: usize, count: usize) -> assert_cmd::assert::Assert {
    embedmill(folder)
        .args(["run", "p.yaml", "--summary", "json"])
        .env("JOB_COMPLETION_INDEX", index.to_string())
        .env("JOB_COMPLETION_COUNT", count.to_string())
        .assert()
}

fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the output").map(|entry| entry.expect("an entry").path());
    let named = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read(&path).expect("an output file"))
    };
    entries.map(named).collect()
}

#[test]
fn shards_together_are_the_whole_and_each_can_be_run_again() {
    let folder = inputs();
    for count in [1, 3, 7] {
        let out = folder.path().join("out");
        for index in (0..count).rev() {
            shard(folder.path(), index, count).success();
        }
        let files = bytes(&out);
        let mut ids: Vec<(usize, usize)> = Vec::new();
        for name in files.keys() {
            for row in rows(&out.join(name)) {
                assert!(row["views"].is_f64(), "all shards infer the types of the first input: {row}");
                let (name, number) = row["id"].as_str().and_then(|id| id.split_once('/')).expect("an id");
                ids.push((name.parse().expect("a number"), number.parse().expect("a number")));
            }
        }
        ids.sort_unstable();
        let expected = [120, 30, 0, 260, 70].iter().enumerate();
        let expected: Vec<_> = expected.flat_map(|(name, &rows)| (0..rows).map(move |row| (name, row))).collect();
        assert_eq!(ids, expected, "{count} shards");

        // As after a pod that was killed: the same names with the same bytes.
        shard(folder.path(), 0, count).success();
        assert_eq!(bytes(&out), files, "{count} shards");
        let letters = |index: usize| {
            let name = format!("rejected-{index:04}-of-{count:04}.jsonl");
            fs::read_to_string(folder.path().join(name)).expect("each has dead letters of its own").lines().count()
        };
        assert_eq!((0..count).map(letters).sum::<usize>(), 1);
        fs::remove_dir_all(&out).expect("the output");
    }
}

#[test]
fn a_shard_without_files_has_nothing_to_do() {
    let folder = inputs();
    let assert = shard(folder.path(), 6, 7).success();
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    let summary = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok()).expect("a summary");
    assert_eq!(summary["records"], 0);
}

#[test]
fn shards_of_other_inputs_or_of_another_number_are_refused() {
    let folder = inputs();
    shard(folder.path(), 0, 3).success();
    let refused = |index: usize, count: usize| {
        shard(folder.path(), index, count).code(2).stderr(predicate::str::contains("a file of another run"));
    };
    refused(0, 2);
    fs::write(folder.path().join("in/0a.jsonl"), "{\"id\": \"x\", \"text\": \"came later\"}\n").expect("a file");
    refused(1, 3);
    fs::remove_file(folder.path().join("in/0a.jsonl")).expect("the file");
    // With other settings a shard would write other names beside its own of before; all of them at once, over them.
    for other in ["window.records=7", "record.text=id", "source.files.shard=null"] {
        let mut command = embedmill(folder.path());
        command
            .args(["run", "p.yaml", "--set", other])
            .env("JOB_COMPLETION_INDEX", "0")
            .env("JOB_COMPLETION_COUNT", "3");
        command.assert().code(2).stderr(predicate::str::contains("a file of another run"));
    }
    shard(folder.path(), 1, 3).success();
}

#[test]
fn a_shard_that_there_is_not_is_refused_where_it_was_written() {
    let folder = inputs();
    shard(folder.path(), 3, 3)
        .code(2)
        .stderr(predicate::str::contains("p.yaml:1: source.files.shard.index: found 3; expected 0 to 2"));
    embedmill(folder.path())
        .args(["validate", "p.yaml"])
        .env_remove("JOB_COMPLETION_INDEX")
        .env("JOB_COMPLETION_COUNT", "2")
        .assert()
        .code(2)
        .stderr(predicate::str::contains("JOB_COMPLETION_INDEX is not set"));
    embedmill(folder.path())
        .args(["validate", "p.yaml"])
        .env("JOB_COMPLETION_INDEX", "first")
        .env("JOB_COMPLETION_COUNT", "2")
        .assert()
        .code(2)
        .stderr(predicate::str::contains("p.yaml:1: source.files.shard.index: found \"first\"; expected"));
}

//! What earlier versions wrote is read, and what is documented of it is true: `docs/compatibility.md`, `tests/data/v1/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use embedmill::internal::output::read::OutputFile;
use predicates::prelude::*;

use super::cli::embedmill;
use super::repository::{read, root};

fn v1(name: &str) -> PathBuf {
    root().join("tests/data/v1").join(name)
}

/// All vectors of a file.
fn vectors(name: &str, ranges: Option<&Path>) -> Vec<Vec<f32>> {
    let mut file = OutputFile::open(&v1(name)).unwrap_or_else(|error| panic!("{error}"));
    let quantizer = file.quantizer(ranges).unwrap_or_else(|error| panic!("{error}"));
    let mut all = Vec::new();
    while let Some(batch) = file.next_vectors(&quantizer) {
        let batch = batch.unwrap_or_else(|error| panic!("{error}"));
        all.extend((0..batch.rows()).map(|row| batch.row(row).to_vec()));
    }
    all
}

#[test]
fn rows_of_version_1_are_read() {
    let float32 = vectors("vectors.arrow", None);
    assert_eq!((float32.len(), float32[0].len()), (7, 8));
    assert_eq!(float32[0][..2], [-0.802_755_8, -0.104_394_25]);
    assert_eq!(vectors("vectors.parquet", None), float32);
    let ranges = v1("ranges.json");
    let int8 = vectors("int8.arrow", Some(&ranges));
    let apart = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let furthest = float32.iter().zip(&int8).map(apart).fold(0.0, f32::max);
    assert!(furthest > 0.0 && furthest < 0.01, "a step of the ranges is below 2 / 255, found {furthest}");
    let bits = vectors("ubinary.parquet", None);
    for (vector, bits) in float32.iter().zip(&bits) {
        let signs: Vec<f32> = vector.iter().map(|value| if *value > 0.0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(signs, *bits);
    }
    let message = vectors("message.arrows", None);
    assert_eq!((message.len(), message[0].len()), (7, 384));
}

#[test]
fn inspect_and_search_read_version_1() {
    let folder = v1("");
    for name in ["vectors.arrow", "vectors.parquet", "int8.arrow", "ubinary.parquet", "tokens.arrow", "message.arrows"]
    {
        embedmill(&folder)
            .args(["inspect", name])
            .assert()
            .success()
            .stdout(predicate::str::contains("7 rows").and(predicate::str::contains("format_version   1")));
    }
    for (name, more) in [("vectors.arrow", &[][..]), ("int8.arrow", &["--ranges", "ranges.json"])] {
        let found = embedmill(&folder).args(["search", name, "a red car", "-k", "1"]).args(more).assert().success();
        let shown = String::from_utf8_lossy(&found.get_output().stdout).into_owned();
        assert!(shown.contains("d0"), "{name}: {shown}");
    }
}

#[test]
fn a_later_version_is_refused_by_every_reader() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The metadata stands in the file as it is, so another digit of the same length is another version.
    let mut bytes = std::fs::read(v1("vectors.arrow")).expect("it is there");
    let key = b"embedmill.format_version";
    let places: Vec<usize> = (0..bytes.len() - key.len()).filter(|&at| bytes[at..].starts_with(key)).collect();
    let mut changed = 0;
    for at in places {
        // Flatbuffers put the value near its key, with its length before it.
        let near = at.saturating_sub(64)..(at + 64).min(bytes.len() - 5);
        for at in near {
            if bytes[at..at + 6] == [1, 0, 0, 0, b'1', 0] {
                bytes[at + 4] = b'2';
                changed += 1;
            }
        }
    }
    assert!(changed > 0, "the version was found");
    std::fs::write(folder.path().join("later.arrow"), bytes).expect("a file");
    let expected = "later.arrow: embedmill.format_version: found \"2\"; expected at most 1 (embedmill 0.1.0 wrote it";
    for args in [&["inspect", "later.arrow"][..], &["search", "later.arrow", "a red car"]] {
        embedmill(folder.path()).args(args).assert().failure().stderr(predicate::str::contains(expected));
    }
    // A run that would add files beside it, too.
    embedmill(folder.path())
        .args(["encode", "-", "--format", "text", "--backend", "hash", "-o", "./", "--output-format", "arrow"])
        .write_stdin("a text\n")
        .assert()
        .failure()
        .stderr(predicate::str::contains("later.arrow: embedmill.format_version: found \"2\""));
}

#[test]
fn what_is_documented_of_rows_is_what_files_have() {
    let documented = read("docs/compatibility.md");
    let mut undocumented = BTreeSet::new();
    for name in ["vectors.arrow", "int8.arrow", "tokens.arrow"] {
        let file = OutputFile::open(&v1(name)).expect("it is read");
        let columns = file
            .columns()
            .into_iter()
            .map(|(column, ..)| column)
            .filter(|name| !["views", "lang"].contains(&name.as_str()));
        let keys = file.provenance().into_keys();
        undocumented.extend(columns.chain(keys).filter(|word| !documented.contains(&format!("`{word}`"))));
    }
    let letters = read("tests/data/v1/dead-letters.jsonl");
    let letter: serde_json::Value = serde_json::from_str(letters.lines().next().expect("a line")).expect("JSON");
    let fields = letter.as_object().expect("an object").keys().cloned();
    undocumented.extend(fields.filter(|word| !documented.contains(&format!("`{word}`"))));
    assert!(undocumented.is_empty(), "docs/compatibility.md does not name {undocumented:?}");
}

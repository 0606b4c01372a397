//! Smaller vectors as a user makes, reads and searches them, with the hash encoder.

use std::path::Path;

use embedmill::internal::output::read::OutputFile;
use predicates::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{embedmill, encode, folder_with, rows};

const TEXTS: [&str; 5] = [
    "the cat sat on the mat",
    "stock markets fell on monday",
    "a dog barked at the cat",
    "rain over the quiet river",
    "markets and rivers rise",
];

fn folder() -> TempDir {
    let lines: String = TEXTS.map(|text| serde_json::json!({ "text": text }).to_string() + "\n").concat();
    folder_with(&[("a.jsonl", &lines)])
}

/// The vectors of an output, as they are written.
fn vectors(path: &Path) -> Vec<Vec<f64>> {
    let numbers = |row: &Value| row["vector"].as_array().expect("a list").iter().flat_map(Value::as_f64).collect();
    rows(path).iter().map(numbers).collect()
}

fn column_type(path: &Path) -> String {
    let columns = OutputFile::open(path).expect("the output").columns();
    columns.into_iter().find(|(name, ..)| name == "vector").expect("a vector column").1
}

#[test]
fn calibrate_then_bytes_then_search() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    embedmill(folder.path())
        .args(["calibrate", "a.jsonl", "-o", "ranges.json", "--backend", "hash"])
        .assert()
        .success()
        .stderr(predicate::str::contains("5 rows from 5 records"));
    let ranges: Value =
        serde_json::from_slice(&std::fs::read(path("ranges.json")).expect("it is there")).expect("JSON");
    assert_eq!((&ranges["vectors"], &ranges["made_by"]["backend"]), (&5.into(), &"hash".into()));
    encode(folder.path(), &["a.jsonl"], "float.arrow").assert().success();
    let floats = vectors(&path("float.arrow"));
    for (precision, kind, offset) in [("int8", "Int8", 128.0), ("uint8", "UInt8", 0.0)] {
        let out = format!("{precision}.parquet");
        encode(folder.path(), &["a.jsonl"], &out)
            .args(["--output-precision", precision, "--ranges", "ranges.json"])
            .assert()
            .success();
        assert_eq!(column_type(&path(&out)), format!("FixedSizeList(384 x {kind})"));
        for (written, floats) in vectors(&path(&out)).iter().zip(&floats) {
            for (column, (written, value)) in written.iter().zip(floats).enumerate() {
                let number = |key: &str| ranges[key][column].as_f64().expect("a number");
                let step = ((number("max") - number("min")) / 255.0).max(f64::MIN_POSITIVE);
                let restored = (written + offset) * step + number("min");
                assert!(
                    (restored - value).abs() <= step * 1.01,
                    "{precision}, column {column}: {restored} and {value}"
                );
            }
        }
        embedmill(folder.path())
            .args(["search", &out, "cat on the mat", "-k", "1", "--ranges", "ranges.json"])
            .assert()
            .success()
            .stdout(predicate::str::contains("a.jsonl:1"));
        embedmill(folder.path())
            .args(["search", &out, "cat"])
            .assert()
            .code(2)
            .stderr(predicate::str::contains(format!("its vectors are {precision}; expected the calibration file")));
    }
}

#[test]
fn bits_and_fixed_ranges_need_no_calibration() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    encode(folder.path(), &["a.jsonl"], "float.arrow").assert().success();
    let floats = vectors(&path("float.arrow"));
    for (precision, kind, offset) in [("binary", "Int8", 128.0), ("ubinary", "UInt8", 0.0)] {
        let out = format!("{precision}.arrow");
        encode(folder.path(), &["a.jsonl"], &out).args(["--output-precision", precision]).assert().success();
        assert_eq!(column_type(&path(&out)), format!("FixedSizeList(48 x {kind})"));
        for (written, floats) in vectors(&path(&out)).iter().zip(&floats) {
            for (column, value) in floats.iter().enumerate() {
                let bit = (written[column / 8] + offset) as u8 & (0x80 >> (column % 8)) != 0;
                assert_eq!(bit, *value > 0.0, "{precision}, column {column}");
            }
        }
        embedmill(folder.path())
            .args(["search", &out, "cat on the mat", "-k", "1"])
            .assert()
            .success()
            .stdout(predicate::str::contains("a.jsonl:1"));
    }
    encode(folder.path(), &["a.jsonl"], "fixed.arrow")
        .args(["--output-precision", "uint8", "--ranges", "-0.25,0.25"])
        .assert()
        .success();
    embedmill(folder.path())
        .args(["search", "fixed.arrow", "rain over a river", "-k", "1"])
        .assert()
        .success()
        .stdout(predicate::str::contains("a.jsonl:4"));
    embedmill(folder.path())
        .args(["inspect", "fixed.arrow"])
        .assert()
        .success()
        .stdout(predicate::str::contains("output_precision uint8").and(predicate::str::contains("[-0.25, 0.25]")));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = folder();
    let one = "{\"text\":\"alone\"}\n";
    std::fs::write(folder.path().join("one.jsonl"), one).expect("a file");
    embedmill(folder.path())
        .args(["calibrate", "a.jsonl", "-o", "ranges.json", "--backend", "hash"])
        .assert()
        .success();
    let check = |args: &[&str], code: i32, expected: &str| {
        let mut command = embedmill(folder.path());
        command.args(args).args(["--backend", "hash"]).assert().code(code).stderr(predicate::str::contains(expected));
        assert!(!folder.path().join("o.arrow").exists() && !folder.path().join("o.json").exists());
    };
    let encode = ["encode", "a.jsonl", "-o", "o.arrow", "--output-precision"];
    let with = |more: &[&'static str]| [&encode, more].concat();
    check(&with(&["int8"]), 2, "--ranges: missing; int8 needs the ranges");
    check(
        &with(&["binary", "--ranges", "ranges.json"]),
        2,
        "--ranges: found, but --output-precision binary does not use it",
    );
    check(&with(&["int8", "--ranges", "nowhere.json"]), 2, "--ranges: nowhere.json: cannot be read");
    check(&with(&["int8", "--ranges", "a.jsonl"]), 2, "--ranges: a.jsonl: not a calibration file");
    check(
        &with(&["int8", "--ranges", "3,2"]),
        2,
        "--ranges: found [3, 2]; expected two numbers, the smaller one first",
    );
    check(
        &with(&["int4"]),
        2,
        "unknown output precision \"int4\"; expected one of float32, int8, uint8, binary, ubinary",
    );
    check(&["calibrate", "one.jsonl", "-o", "o.json"], 1, "found 1 vectors; expected at least 2");
    check(&["calibrate", "a.jsonl", "-o", "no/such/o.json"], 2, "no/such/o.json: cannot be created");
    check(&["encode", "a.jsonl", "-o", "o.arrow", "--pooling", "cls+first"], 2, "unknown pooling mode \"first\"");
    check(&["encode", "a.jsonl", "-o", "o.arrow", "--route", "query"], 2, "--route: set without --model; expected the model whose files it refers to");
}

#[test]
fn models_are_listed_and_what_is_not_there_is_told() {
    let folder = folder();
    embedmill(folder.path())
        .args(["models", "list"])
        .assert()
        .success()
        .stdout(predicate::str::contains("mean_sqrt_len_tokens").and(predicate::str::contains("Tanhshrink")));
    embedmill(folder.path())
        .args(["models", "show", "acme/nothing", "--cache", "cache"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("(`embedmill models pull acme/nothing` downloads it)"));
    embedmill(folder.path())
        .args(["models", "pull", "acme/nothing", "--cache", "cache", "--offline"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("since the network is disabled (run once without --offline"));
    for command in ["list", "show", "pull"] {
        embedmill(folder.path())
            .args(["models", command, "--help"])
            .assert()
            .success()
            .stdout(predicate::str::contains("Example"));
    }
}

/// A list a row, as long as the row has tokens; the same words have the same vectors.
#[test]
fn token_vectors_are_a_list_a_row() {
    let folder = folder();
    for name in ["tokens.arrow", "tokens.parquet"] {
        encode(folder.path(), &["a.jsonl"], name).args(["--output-value", "token_embeddings"]).assert().success();
        let columns = OutputFile::open(&folder.path().join(name)).expect("the output").columns();
        let column = columns.into_iter().find(|(name, ..)| name == "token_vectors").expect("the column");
        assert_eq!((column.1.as_str(), column.2), ("List(non-null FixedSizeList(384 x Float32))", false));
        let rows = rows(&folder.path().join(name));
        let vectors = |row: usize| rows[row]["token_vectors"].as_array().expect("a list").clone();
        assert_eq!(rows.len(), TEXTS.len());
        for (row, text) in TEXTS.iter().enumerate() {
            assert_eq!(vectors(row).len(), text.split(' ').count(), "{text}");
            assert_eq!(rows[row]["tokens"], vectors(row).len());
            assert!(vectors(row).iter().all(|vector| vector.as_array().is_some_and(|values| values.len() == 384)));
        }
        // "the cat" is in two texts, "the" twice in one.
        let cat = vectors(0);
        assert_eq!((&cat[0], &cat[1]), (&cat[4], &vectors(2)[5]));
        assert_ne!(cat[0], cat[1]);
        embedmill(folder.path()).args(["search", name, "cat"]).assert().failure().stderr(predicate::str::contains(
            "found token vectors, which cannot be compared with the one vector of a text",
        ));
    }
    let refused = |args: &[&str], expected: &str| {
        encode(folder.path(), &["a.jsonl"], "no.arrow")
            .args(["--output-value", "token_embeddings"])
            .args(args)
            .assert()
            .code(2)
            .stderr(predicate::str::contains(expected));
    };
    refused(
        &["--output-precision", "binary"],
        "--output-precision: found binary; expected float32 with --output-value: token_embeddings",
    );
    refused(&["--pooling", "max"], "--pooling: applies to sentence embeddings only, but --output-value is token_embeddings");
}

/// Token vectors are many times the text: a window has as many tokens as a quarter of what may be in flight holds.
#[test]
fn token_vectors_make_windows_smaller() {
    let folder = folder();
    let pipeline = "source: { files: { paths: [a.jsonl] } }\nmodel: { backend: hash, hash_dim: 1024, max_seq_length: 512 }\n\
                    output: { value: token_embeddings }\nsink: { arrow: { path: out.arrow } }\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).expect("the pipeline");
    embedmill(folder.path())
        .args(["explain", "p.yaml"])
        .assert()
        .success()
        .stdout(predicate::str::contains("output   one list of token vectors per text, as float32"));
    embedmill(folder.path()).args(["run", "p.yaml"]).assert().success();
    embedmill(folder.path()).args(["run", "p.yaml", "--set", "model.hash_dim=65536"]).assert().code(2).stderr(
        predicate::str::contains(
            "window.in_flight_bytes: found 33554432; expected at least 268435456 bytes for the token vectors of the longest text",
        ),
    );
}

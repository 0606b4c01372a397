//! The binary with the real model, as the README shows it.

use crate::models::{real_model, tiny};
use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

#[test]
fn encode_and_search_with_the_real_model() {
    let folder = TempDir::new().expect("a temporary folder");
    let lines =
        "A kitten sleeps on the sofa.\nThe central bank raised interest rates.\nHe tunes the engine of his car.\n";
    std::fs::write(folder.path().join("lines.txt"), lines).expect("the input");
    let embedmill = || {
        let mut command = Command::cargo_bin("embedmill").expect("the binary is built");
        command.current_dir(folder.path());
        command
    };
    embedmill()
        .args(["encode", "lines.txt", "-o", "out.arrow", "--offline", "--model"])
        .arg(real_model())
        .assert()
        .success()
        .stderr(predicate::str::contains("3 rows from 3 records"));
    for (query, line) in [("a cat napping on a couch", 1), ("monetary policy", 2), ("repairing a vehicle", 3)] {
        embedmill()
            .args(["search", "out.arrow", query, "-k", "1"])
            .assert()
            .success()
            .stdout(predicate::str::contains(format!("lines.txt:{line}")));
    }
}

/// A text is found again with the similarity of 1 only if the query was embedded as the text was: with the prompt named
/// `query`, and on the Router's way for queries.
#[test]
fn search_embeds_its_text_as_a_query() {
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::write(folder.path().join("lines.txt"), "the boat waits\nchildren count birds\n").expect("the input");
    let embedmill = || {
        let mut command = Command::cargo_bin("embedmill").expect("the binary is built");
        command.current_dir(folder.path());
        command
    };
    let score = |model: &str, flags: &[&str], search: &[&str]| -> f64 {
        let encode = ["encode", "lines.txt", "-o", "out.arrow", "--model"];
        embedmill().args(encode).arg(tiny(model)).args(flags).assert().success();
        let found = embedmill()
            .args(["search", "out.arrow", "children count birds", "-k", "1", "--json"])
            .args(search)
            .assert();
        let hit: serde_json::Value = serde_json::from_slice(&found.success().get_output().stdout).expect("one hit");
        hit["score"].as_f64().expect("a score")
    };
    let same = |score: f64| (score - 1.0).abs() < 1e-5;
    assert!(same(score("prompted", &["--prompt-name", "query"], &[])));
    assert!(!same(score("prompted", &[], &[])), "the default prompt is of documents");
    assert!(same(score("prompted", &[], &["--prompt-name", "passage"])));
    assert!(same(score("routed", &["--route", "query", "--prompt-name", "query"], &[])));
    assert!(!same(score("routed", &["--prompt-name", "query"], &[])), "the default route is of documents");
    assert!(same(score("chained", &["--truncate-dim", "6", "--normalize"], &[])));
    assert!(same(score("poolings", &["--pooling", "cls+lasttoken"], &[])));
}

#[test]
fn a_model_is_shown_without_being_loaded() {
    let show = |model: &str, more: &[&str]| {
        let mut command = Command::cargo_bin("embedmill").expect("the binary is built");
        let shown = command.args(["models", "show"]).arg(tiny(model)).args(more).assert().success();
        String::from_utf8_lossy(&shown.get_output().stdout).into_owned()
    };
    let chained = show("chained", &[]);
    for part in [
        "family          bert\n",
        "dims            8\n",
        "dense 9 to 12 (SiLU, residual)\n",
        "first 8 values\n",
        "length          at most 26 tokens\n",
        "prompt          query: \"\"\n",
    ] {
        assert!(chained.contains(part), "{part:?} in {chained}");
    }
    let prompted = show("prompted", &[]);
    assert!(prompted.contains("passage: \"the [SEP] boat \", the default\n"), "{prompted}");
    assert!(prompted.contains("tokens of prompts are excluded from the pooling"), "{prompted}");
    let routed: serde_json::Value =
        serde_json::from_str(&show("routed", &["--route", "query", "--json"])).expect("JSON");
    assert_eq!((&routed["pooling"], &routed["dim"]), (&"cls".into(), &10.into()));
}

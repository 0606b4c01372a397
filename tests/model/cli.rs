//! The binary with the real model, as the README shows it.

use std::path::PathBuf;

use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

/// The folder of all-MiniLM-L6-v2, which `make setup` fetches.
pub fn real_model() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"));
    let default = cache.join("embedmill/models/all-MiniLM-L6-v2");
    let folder = std::env::var_os("EMBEDMILL_TEST_MODEL").map_or(default, PathBuf::from);
    assert!(folder.join("modules.json").is_file(), "{}: no model is there; run `make setup`", folder.display());
    folder
}

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

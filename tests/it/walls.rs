//! Walls between the rooms: which crate may be named where.

use std::fs;
use std::path::{Path, PathBuf};

/// Adds the Rust files in the folder and below it.
pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `name` stands only in files whose path under src/ begins with one of `allowed`, and stands in each of these.
fn check(name: &str, allowed: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut unused: Vec<&&str> = allowed.iter().collect();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        // A crate's name after another word is a name of ours, such as `columns::arrow::`.
        let uses = text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
            line.match_indices(name)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)))
        });
        let path = file.strip_prefix(&root).expect("it was found there").display().to_string();
        let at_home = allowed.iter().find(|allowed| path.starts_with(**allowed));
        assert!(!uses || at_home.is_some(), "src/{path} names {name}, which belongs in {allowed:?}");
        unused.retain(|allowed| !(uses && Some(**allowed) == at_home.copied()));
    }
    assert!(unused.is_empty(), "{name} is allowed in {unused:?} and not used there");
}

#[test]
fn every_crate_stays_in_its_room() {
    check("tch::", &["encode/torch/"]);
    check("pulp::", &["encode/torch/simd/"]);
    check("arrow::", &["columnar/", "kafka/messages.rs", "source/file/", "sink/"]);
    check("rdkafka::", &["kafka/"]);
    check("parquet::", &["columnar/", "source/file/", "sink/"]);
    check("std::env::", &["config/"]);
    check("tokenizers::", &["tokenize", "vocabulary/"]);
    check("hf_hub::", &["encode/hub/"]);
    check("anyhow::", &["cli/"]);
    check("clap::", &["cli/"]);
    check("ratatui::", &["cli/top"]);
    check("metrics::", &["telemetry/", "kafka/publisher.rs"]);
    check("hyper::", &["telemetry/observer.rs"]);
    check("ureq::", &["cli/top.rs", "telemetry/otlp.rs"]);
    check("opentelemetry::", &["telemetry/otlp.rs", "telemetry/traces.rs"]);
    check("opentelemetry_sdk::", &["telemetry/otlp.rs", "telemetry/traces.rs"]);
}

#[test]
fn unsafe_code_is_in_two_files_and_gives_its_reasons() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let kinds = ["unsafe {", "unsafe fn", "unsafe impl"];
        let blocks: usize = kinds.iter().map(|kind| text.matches(kind).count()).sum();
        let reasons = text.matches("// SAFETY: ").count();
        let homes = ["encode/torch/memory.rs", "encode/torch/package/mod.rs"];
        let at_home = homes.iter().any(|home| file == root.join(home));
        assert!(blocks == if at_home { reasons } else { 0 }, "{} has unsafe code", file.display());
    }
}

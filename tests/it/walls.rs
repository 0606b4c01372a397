//! Walls between the rooms: which crate may be named where.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder `src`.
pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file under `src`.
pub fn sources() -> Vec<PathBuf> {
    let files =
        walkdir::WalkDir::new(source_root()).into_iter().map(|entry| entry.expect("it can be listed").into_path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Whether the file holds nothing but tests.
pub fn is_test(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// `name` stands only in files whose path under src/ begins with one of `allowed`, and stands in each of these.
fn check(name: &str, allowed: &[&str]) {
    let root = source_root();
    let mut unused: Vec<&&str> = allowed.iter().collect();
    for file in sources() {
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
    check("arrow::", &["columnar/", "kafka/messages.rs", "output/", "sink/", "source/file/"]);
    check("rdkafka::", &["kafka/librdkafka/"]);
    check("parquet::", &["output/read.rs", "sink/", "source/file/"]);
    check("std::env::", &["config/"]);
    check("tokenizers::", &["model/tokenizer/"]);
    check("hf_hub::", &["model/hub/"]);
    check("anyhow::", &["cli/"]);
    check("clap::", &["cli/"]);
    check("ratatui::", &["cli/top"]);
    check("metrics::", &["telemetry/", "kafka/librdkafka/producer.rs"]);
    check("hyper::", &["telemetry/observer.rs"]);
    check("ureq::", &["cli/top.rs", "telemetry/otlp.rs"]);
    check("opentelemetry::", &["telemetry/otlp.rs", "telemetry/traces.rs"]);
    check("opentelemetry_sdk::", &["telemetry/otlp.rs", "telemetry/traces.rs"]);
}

#[test]
fn unsafe_code_is_in_two_files_and_gives_its_reasons() {
    let root = source_root();
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let kinds = ["unsafe {", "unsafe fn", "unsafe impl"];
        let blocks: usize = kinds.iter().map(|kind| text.matches(kind).count()).sum();
        let reasons = text.matches("// SAFETY: ").count();
        let homes = ["encode/torch/memory.rs", "encode/torch/package/mod.rs"];
        let at_home = homes.iter().any(|home| file == root.join(home));
        assert!(blocks == if at_home { reasons } else { 0 }, "{} has unsafe code", file.display());
    }
}

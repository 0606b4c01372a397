//! The pipeline files that are shipped: all of them plan, and the reference is equal to the defaults.

use std::fs;
use std::path::{Path, PathBuf};

use embedmill::internal::config::{Config, Layers, schema};
use embedmill::internal::graph::mermaid;
use embedmill::internal::plan::Plan;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn load(text: &str, set: &[&str]) -> Config {
    Layers::from_texts(&[("pipeline.yaml", text)], &[], set).load().expect("a valid pipeline file")
}

#[test]
fn every_example_plans_and_explains_itself() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).expect("pipelines/ is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "reference" || name.ends_with(".test") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it can be read");
        let plan = Plan::new(&load(&text, &[])).expect("the example is consistent");
        insta::assert_snapshot!(format!("explain-{name}"), plan.explain(None));
        insta::assert_snapshot!(format!("graph-{name}"), mermaid(&plan, None));
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples were found");
}

#[test]
fn the_reference_is_equal_to_the_defaults() {
    let text = fs::read_to_string(folder().join("reference.yaml")).expect("it can be read");
    assert_eq!(load(&text, &[]), Config::default());
}

/// All keys of the schema, as dotted paths.
fn keys(node: &Value, root: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        return keys(root.pointer(reference.trim_start_matches('#')).expect("a definition"), root, path, found);
    }
    for alternative in node.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        keys(alternative, root, path, found);
    }
    for (name, node) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.push(path.clone());
        keys(node, root, &path, found);
    }
}

#[test]
fn the_reference_has_every_key() {
    let text = fs::read_to_string(folder().join("reference.yaml")).expect("it can be read");
    let root = schema();
    let mut all = Vec::new();
    keys(&root, &root, "", &mut all);
    assert!(all.len() > 30, "the schema was walked: {all:?}");
    for key in all {
        let name = key.rsplit('.').next().unwrap_or_default();
        assert!(text.contains(&format!("{name}:")), "pipelines/reference.yaml does not show {key}");
    }
}

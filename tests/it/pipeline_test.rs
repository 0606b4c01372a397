//! `embedmill test`: the shipped examples pass, what differs is shown, and mistakes are told with their place.

use std::path::Path;

use predicates::prelude::*;

use super::cli::{embedmill, folder_with};

const PIPELINE: &str = "
source: { files: { paths: [in.jsonl] } }
record: { id: id, text: [title, body], keep: [{ field: lang, type: string }, { field: views, type: int64 }] }
model: { backend: hash, hash_dim: 8 }
sink: { arrow: { path: out/ } }
dead_letter: { path: rejected.jsonl }
";

#[test]
fn every_example_has_tests_and_they_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(root.join("pipelines")).expect("pipelines/ is there");
    for path in files.map(|entry| entry.expect("it can be listed").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "reference.yaml" && !name.ends_with(".test.yaml") {
            assert!(path.with_extension("test.yaml").exists(), "pipelines/{name} has no tests");
        }
    }
    let ran = embedmill(root).arg("test").assert().success().stderr("");
    ran.stdout(predicate::str::contains("FAILED").not().and(predicate::str::contains("passed, 0 failed")));
}

#[test]
fn a_pipeline_file_is_tried_by_the_tests_beside_it() {
    let tests = "cases: [{ name: one, records: [{ id: a, title: x, body: y, lang: en, views: 1 }], expect: { rows: 1, dims: 8 } }]\n";
    let folder = folder_with(&[
        ("a.yaml", PIPELINE),
        ("a.test.yaml", tests),
        ("deep/b.test.yaml", &format!("pipeline: ../a.yaml\n{tests}")),
    ]);
    for (path, count) in [("a.yaml", 1), ("a.test.yaml", 1), (".", 2)] {
        let passed = format!("{count} passed, 0 failed");
        embedmill(folder.path()).args(["test", path]).assert().success().stdout(predicate::str::contains(passed));
    }
    // Nothing outside is touched.
    assert!(!folder.path().join("out").exists() && !folder.path().join("rejected.jsonl").exists());
}

const FAILING: &str = r#"
cases:
  - name: everything differs
    records:
      - { id: a, title: x, body: y, lang: en, views: 7 }
      - { id: b, title: x, body: y, lang: de, views: 8 }
      - { id: c, title: x }
      - { id: d, title: x, body: y, lang: de, views: some }
    expect:
      rows:
        - { id: a, text: "x y", views: 7.0, language: en }
        - { id: b, lang: fr, tokens: 2 }
        - { id: c }
      columns: { views: Utf8, when: Int64 }
      dims: 384
      dead_letters:
        - { record: 3, stage: extract, cause: "field `body`: missing" }
        - { record: 4, stage: tokenize }
      deletes: [z]
  - name: more rows than expected
    records: [{ id: a, title: x, body: y, lang: en, views: 7 }]
    expect: { dead_letters: [{}] }
  - name: it does not stop
    records: []
    expect: { stops: broken, }
  - name: it stops
    set: { dead_letter: null }
    records: ["{", { id: a, title: x, body: y, lang: en, views: 7 }]
    expect: { rows: 1 }
  - name: it stops for another reason
    set: { dead_letter: null }
    records: ["{"]
    expect: { stops: missing }
  - name: this one passes
    records: [{ id: a, title: x, body: y, lang: en, views: 7 }]
    expect: { rows: [{ id: a, views: 7 }] }
"#;

#[test]
fn what_differs_is_shown() {
    let folder = folder_with(&[("a.yaml", PIPELINE), ("a.test.yaml", FAILING)]);
    let ran = embedmill(folder.path()).args(["test", "a.yaml"]).assert().code(1);
    ran.stderr("error: 5 of 6 cases failed\n").stdout(predicate::function(|out: &str| {
        insta::assert_snapshot!("differences", out);
        true
    }));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let case = |records: &str, expect: &str| {
        format!("cases:\n  - name: a case\n    records: {records}\n    expect: {expect}\n")
    };
    let check = |pipeline: &str, tests: &str, expected: &str| {
        let folder = folder_with(&[("a.yaml", pipeline), ("a.test.yaml", tests)]);
        let told = predicate::str::contains(expected);
        embedmill(folder.path())
            .args(["test", "a.test.yaml"])
            .assert()
            .code(2)
            .stdout(predicate::str::contains("1 passed").not())
            .stderr(told);
    };
    check(PIPELINE, "cases: []\n", "a.test.yaml:1: cases: found an empty list; expected at least one case");
    check(
        PIPELINE,
        &case("[]", "{ row: 1 }"),
        "a.test.yaml:4: cases.0.expect.row: unknown key; expected one of rows, ",
    );
    check(PIPELINE, &case("[]", "{ rows: some }"), "a.test.yaml:4: cases.0.expect.rows: expected a list of rows");
    check(
        PIPELINE,
        &case("[]", "{ dead_letters: [{ stage: read it }] }"),
        "unknown stage \"read it\"; expected one of read, extract",
    );
    check(
        PIPELINE,
        &case("[]", "{ rows: 1, stops: x }"),
        "a.test.yaml:4: cases.0.expect.stops: found other expectations beside it",
    );
    check(
        PIPELINE,
        &case("[7]", "{}"),
        "a.test.yaml:3: cases.0.records.0: found 7; expected a map, or a string that is the record",
    );
    check(
        PIPELINE,
        &format!("pipeline: b.yaml\n{}", case("[]", "{}")),
        "a.test.yaml: pipeline: the pipeline file b.yaml cannot be read",
    );
    check(&format!("{PIPELINE}widow: 1\n"), &case("[]", "{}"), "a.yaml:7: widow: unknown key; did you mean `window`?");
    check(
        "model: { id: \"${SECRET}\" }\n",
        &case("[]", "{}"),
        "SECRET is not set (`environment:` of a.test.yaml sets it",
    );
    let kafka =
        "source: { kafka: { brokers: b, topics: [t], group: g } }\nmodel: { id: m }\nsink: { kafka: { topic: o } }\n";
    check(
        kafka,
        &case("[{ $key: k }]", "{}"),
        "cases.0.records.0: $value: missing; expected the value, or null for a delete",
    );
    check(kafka, &case("[{ $value: {}, $partition: 1 }]", "{}"), "$partition: unknown part of a message");
}

#[test]
fn a_case_that_cannot_be_tried_is_named_and_the_others_are_tried() {
    let tests = "cases:
  - { name: right, records: [], expect: { rows: 0 } }
  - { name: a slip, set: { batch.tokns: 5 }, records: [], expect: { rows: 0 } }
  - { name: right too, records: [], expect: { rows: 0 } }
";
    let folder = folder_with(&[("a.yaml", PIPELINE), ("a.test.yaml", tests)]);
    let ran = embedmill(folder.path()).args(["test", "a.test.yaml"]).assert().code(2);
    ran.stdout(predicate::str::contains("2 passed, 0 failed, 1 invalid")).stderr(predicate::str::contains(
        "a.test.yaml: `a slip`: --set: batch.tokns: unknown key; did you mean `tokens`?",
    ));
}

#[test]
fn paths_without_tests_are_refused() {
    let folder = folder_with(&[("a.yaml", PIPELINE), ("empty/x.txt", "")]);
    let check = |path: &str, expected: &str| {
        embedmill(folder.path())
            .args(["test", path])
            .assert()
            .code(2)
            .stderr(predicate::str::contains(expected.to_string()));
    };
    check("a.yaml", "a.yaml: no tests; expected them in a.test.yaml");
    check("empty", "empty: no test files; expected NAME.test.yaml");
    check("b.yaml", "b.yaml: the test file b.yaml cannot be read");
    check("pipelines/", "cannot be read");
}

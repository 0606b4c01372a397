//! What the chart's modes rely on: a static member that restarts, and shards with a checkpoint each.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::cluster::{Pipeline, create_topics, document, ids, produce, stop};
use crate::observe::wait_for;
use crate::server::shared;

/// A static member of the group, named like the pod of a stateful set.
fn member(pipeline: &Pipeline, name: &str, log: &Path) -> Child {
    let properties = format!("source.kafka.properties={{group.instance.id: {name}, session.timeout.ms: '30000'}}");
    let log = std::fs::File::create(log).expect("a log");
    let mut command = pipeline.command(&["--set", &properties]);
    command.stderr(log).stdout(Stdio::null()).spawn().expect("embedmill starts")
}

/// The rebalances in a member's log, in order: the partitions that were assigned, or `None` if some were revoked or lost.
fn rebalances(log: &Path) -> Vec<Option<String>> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = lines.filter_map(|line| match line["fields"]["message"].as_str()? {
        "partitions assigned" => Some(Some(line["fields"]["partitions"].as_str().unwrap_or_default().to_string())),
        "partitions revoked" | "partitions lost" => Some(None),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_static_member_restarts_without_a_rebalance() {
    let addr = shared().addr();
    create_topics(addr, &[("static-in", 4), ("static-out", 4)], &[]);
    let documents: Vec<_> = (0..2_000).map(|index| document(index % 4, &format!("{index:05}"), "a text")).collect();
    let pipeline = Pipeline::new(addr, ["static-in", "static-out"], "static", "delivery: exactly_once\n");
    let folder = tempfile::tempdir().expect("a folder");
    let log = |name: &str| folder.path().join(name);
    let mut stays = member(&pipeline, "pod-0", &log("stays"));
    wait_for("the first member's partitions", || (!rebalances(&log("stays")).is_empty()).then_some(()));
    let mut goes = member(&pipeline, "pod-1", &log("goes"));
    let last = |name: &str| rebalances(&log(name)).into_iter().flatten().next_back();
    let had = wait_for("the second member's partitions", || last("goes").filter(|partitions| partitions.len() > 2));
    produce(addr, "static-in", &documents[..1_000]);
    let count = |addr: &str| ids(addr, "static-out").values().map(Vec::len).sum::<usize>();
    wait_for("the first half", || (count(addr) == 1_000).then_some(()));

    let before = rebalances(&log("stays"));
    stop(&mut goes);
    let mut back = member(&pipeline, "pod-1", &log("back"));
    produce(addr, "static-in", &documents[1_000..]);
    wait_for("the second half", || (count(addr) == 2_000).then_some(()));
    assert_eq!(last("back"), Some(had), "it is assigned the same partitions");
    assert_eq!(rebalances(&log("stays")), before, "the other member sees no rebalance");
    stop(&mut back);
    stop(&mut stays);

    let mut expected = BTreeMap::<i32, Vec<String>>::new();
    documents.iter().for_each(|sent| expected.entry(sent.partition).or_default().push(sent.key.clone()));
    assert_eq!(ids(addr, "static-out"), expected);
}

#[test]
fn a_shard_resumes_from_its_own_checkpoint() {
    let addr = shared().addr();
    create_topics(addr, &[("shards-out", 3)], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut expected = Vec::new();
    for file in 0..5 {
        let names: Vec<String> = (0..600).map(|line| format!("{file}-{line:04}")).collect();
        let lines: String = names.iter().map(|id| format!("{{\"id\": \"{id}\", \"text\": \"a text\"}}\n")).collect();
        std::fs::write(folder.path().join(format!("{file}.jsonl")), lines).expect("a file");
        expected.extend(names);
    }
    let path = folder.path().join("p.yaml");
    let pipeline = format!(
        "source: {{ files: {{ paths: ['{}/*.jsonl'], checkpoint: sharded, \
         shard: {{ index: '${{JOB_COMPLETION_INDEX}}', count: 2 }} }} }}\nrecord: {{ id: id }}\n\
         model: {{ backend: hash, hash_dim: 8 }}\nwindow: {{ records: 40 }}\n\
         sink: {{ kafka: {{ brokers: '{addr}', topic: shards-out }} }}\ndelivery: exactly_once\n",
        folder.path().display()
    );
    std::fs::write(&path, pipeline).expect("a pipeline file");
    let shard = |index: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedmill"));
        command.arg("run").arg(&path).args(["--summary", "json"]).env("JOB_COMPLETION_INDEX", index.to_string());
        command
    };
    let finish = |index: usize| {
        let output = shard(index).output().expect("embedmill starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let summary = said.lines().rev().find(|line| line.starts_with('{')).expect("a summary");
        serde_json::from_str::<serde_json::Value>(summary).expect("JSON")["records"].as_u64().expect("a count")
    };
    let mut killed = shard(0).stderr(Stdio::null()).spawn().expect("embedmill starts");
    wait_for("some rows", || (!ids(addr, "shards-out").is_empty()).then_some(()));
    killed.kill().expect("it runs");
    killed.wait().expect("it is a child");
    assert_eq!(finish(1), 1_200, "the second shard has two files, whatever became of the first");
    let rest = finish(0);
    assert!(rest < 1_800, "it resumed");
    assert_eq!((finish(0), finish(1)), (0, 0), "both are done");
    let mut found: Vec<String> = ids(addr, "shards-out").into_values().flatten().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

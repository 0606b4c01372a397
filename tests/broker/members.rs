//! Static membership: a member that restarts under its id gets its partitions back without a rebalance.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cluster::{Pipeline, Sent, create_topics, document, ids, produce};
use crate::observe::{Observed, wait_for};
use crate::server::shared;

const PARTITIONS: i32 = 4;

fn documents(from: usize, count: usize) -> Vec<Sent> {
    (from..from + count).map(|index| document(index as i32 % PARTITIONS, &format!("{index:04}"), "a text")).collect()
}

fn start(pipeline: &Pipeline, name: &str, log: &Path) -> Observed {
    let mut command = pipeline.command(&[]);
    command.env("MEMBER", name);
    Observed::watched(command, log)
}

fn partitions(run: &Observed) -> f64 {
    run.scrape().sum("embedmill_kafka_partitions_assigned", &[])
}

#[test]
fn a_static_member_gets_its_partitions_back_and_a_second_one_fences_it() {
    let addr = shared().addr();
    create_topics(addr, &[("s-in", PARTITIONS), ("s-out", PARTITIONS)], &[]);
    let pipeline = Pipeline::with_properties(
        addr,
        "s-in",
        "s",
        ", group.instance.id: '${MEMBER}'",
        "model: { backend: hash, hash_dim: 8 }\nsink: { kafka: { topic: s-out } }\ndelivery: exactly_once\n\
         observe: { listen: '127.0.0.1:0' }\n",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let log = |name: &str| folder.path().join(name);
    produce(addr, "s-in", &documents(0, 400));
    let mut first = start(&pipeline, "first", &log("first"));
    let second = start(&pipeline, "second", &log("second"));
    wait_for("both to have partitions", || (partitions(&first) == 2.0 && partitions(&second) == 2.0).then_some(()));
    let rebalances = || second.scrape().sum("embedmill_kafka_rebalances_total", &[]);
    let before = rebalances();

    first.child.kill().and_then(|()| first.child.wait()).expect("it is a child");
    produce(addr, "s-in", &documents(400, 400));
    let first = start(&pipeline, "first", &log("first-again"));
    wait_for("it to have its partitions again", || (partitions(&first) == 2.0).then_some(()));
    wait_for("all documents", || {
        let found: Vec<String> = ids(addr, "s-out").into_values().flatten().collect();
        (found.len() >= 800).then(|| {
            assert_eq!(found.len(), 800);
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 800, "each once");
        })
    });
    assert_eq!(rebalances(), before, "the other member sees no rebalance");

    // A second instance with the same id fences the first, which stops and says why.
    let second_instance = start(&pipeline, "first", &log("second_instance"));
    let mut first = first;
    let ended = first.child.wait().expect("it is a child");
    let said = std::fs::read_to_string(log("first-again")).expect("a log");
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("`group.instance.id`"), "{said}");
    second_instance.stop();
    second.stop();
}

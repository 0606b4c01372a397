//! What is refused, and with which message: nearly all of it before any data moves.

use std::time::Instant;

use predicates::prelude::*;
use predicates::str::contains;

use crate::cluster::{LIMIT, Pipeline, create_topics, document, ids, produce, set};
use crate::observe::{Observed, wait_for};
use crate::server::{Broker, PASSWORD, STRANGER, USER, shared};

fn assert_refused(pipeline: &Pipeline, arguments: &[&str], expected: &[&str]) {
    let assert = assert_cmd::Command::from_std(pipeline.command(arguments)).assert().failure();
    let stderr = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    for part in expected {
        assert!(contains(*part).eval(&stderr), "expected {part:?} in: {stderr}");
    }
}

#[test]
fn an_unknown_topic_is_named() {
    let addr = shared().addr();
    create_topics(addr, &[("n-in", 1)], &[]);
    let pipeline = Pipeline::new(addr, ["n-in", "n-nowhere"], "n", "");
    assert_refused(&pipeline, &[], &["sink.kafka: topic \"n-nowhere\"", "create it"]);
    let pipeline = Pipeline::new(addr, ["n-nowhere", "n-in"], "n", "");
    assert_refused(&pipeline, &[], &["source.kafka: topic \"n-nowhere\"", "create it"]);
}

#[test]
fn an_unreachable_broker_is_reported() {
    let pipeline = Pipeline::new("127.0.0.1:9", ["in", "out"], "g", "");
    assert_refused(&pipeline, &[], &["source.kafka: topic \"in\"", "check `brokers`"]);
}

#[test]
fn tls_and_passwords_are_for_real_and_never_shown() {
    let broker = Broker::start_secure();
    create_topics(broker.addr(), &[("s-in", 1), ("s-out", 1)], &[]);
    produce(broker.addr(), "s-in", &[document(0, "1", "secret")]);
    let ca = broker.ca_pem().display().to_string();
    let properties = |protocol: &str, mechanism: &str, password: &str| {
        format!(
            "source.kafka.properties={{security.protocol: {protocol}, sasl.mechanism: {mechanism}, \
             sasl.username: {USER}, sasl.password: {password}, ssl.ca.location: '{ca}'}}"
        )
    };
    let pipeline = |addr: &str, group: &str| Pipeline::new(addr, ["s-in", "s-out"], group, "");
    for (index, (addr, protocol, mechanism)) in [
        (broker.sasl_ssl_addr(), "sasl_ssl", "SCRAM-SHA-256"),
        (broker.sasl_ssl_addr(), "sasl_ssl", "PLAIN"),
        (broker.sasl_addr(), "sasl_plaintext", "SCRAM-SHA-256"),
    ]
    .into_iter()
    .enumerate()
    {
        let pipeline = pipeline(addr, &format!("s{index}"));
        assert_eq!(pipeline.run(&["--set", &properties(protocol, mechanism, PASSWORD)])["rows"], 1);
        let wrong = properties(protocol, mechanism, "not-it-4711");
        assert_refused(&pipeline, &["--set", &wrong], &["source.kafka: topic \"s-in\""]);
        let assert = assert_cmd::Command::from_std(pipeline.command(&["--set", &wrong])).assert().failure();
        let output = assert.get_output();
        let shown =
            String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned();
        assert!(!shown.contains("not-it-4711"), "{shown}");
    }
    let tls = format!("source.kafka.properties={{security.protocol: ssl, ssl.ca.location: '{ca}'}}");
    assert_eq!(pipeline(broker.ssl_addr(), "tls").run(&["--set", &tls])["rows"], 1);
    let untrusted = "source.kafka.properties={security.protocol: ssl}";
    assert_refused(&pipeline(broker.ssl_addr(), "untrusted"), &["--set", untrusted], &["source.kafka: topic \"s-in\""]);
    assert_eq!(ids(broker.addr(), "s-out")[&0].len(), 4);
    let stranger = format!(
        "source.kafka.properties={{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: {STRANGER}, \
         sasl.password: {PASSWORD}}}"
    );
    let expected = ["source.kafka: topic \"s-in\"", "give this user READ"];
    assert_refused(&pipeline(broker.sasl_addr(), "stranger"), &["--set", &stranger], &expected);
}

/// The topic's limit is lowered during the run, so that no further attempt could succeed.
#[test]
fn a_message_that_is_never_taken_ends_the_run_at_once() {
    let addr = shared().addr();
    for (delivery, from, to) in
        [("at_least_once", "lean-a-in", "lean-a-out"), ("exactly_once", "lean-b-in", "lean-b-out")]
    {
        create_topics(addr, &[(from, 1), (to, 1)], &[]);
        let more = format!("delivery: {delivery}\nobserve: {{ listen: '127.0.0.1:0' }}\n");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut run = Observed::start(&Pipeline::new(addr, [from, to], from, &more), &[], &log);
        wait_for("the run to be ready", || (run.get("/ready").0 == 200).then_some(()));
        set(addr, to, ("max.message.bytes", "300"));
        produce(addr, from, &[document(0, "1", "a text")]);
        let started = Instant::now();
        let ended = run.child.wait().expect("it is a child");
        let said = std::fs::read_to_string(&log).expect("a log");
        assert_eq!(ended.code(), Some(1), "{said}");
        assert!(said.contains(&format!("topic {to:?}")) && said.contains("raise the topic's"), "{said}");
        // Attempts that may succeed would continue for minutes.
        assert!(started.elapsed() < LIMIT, "{said}");
    }
}

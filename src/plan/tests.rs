use super::*;
use crate::config::Layers;

const GOOD: &str = "source: {files: {paths: [a.jsonl]}}\nmodel: {id: m}\nsink: {arrow: {path: out.arrow}}\n";

#[test]
fn invalid_combinations_are_refused_by_key() {
    let check = |set: &[&str], key: &str, part: &str| {
        let config = Layers::from_texts(&[("p.yaml", GOOD)], &[], set).load().unwrap();
        let error = Plan::new(&config).unwrap_err();
        assert_eq!(error.key, key);
        assert!(error.message.contains(part), "{}", error.message);
    };
    check(&["source.files.paths=[]"], "source.files.paths", "at least one");
    check(&["sink.parquet.path=x"], "sink", "more than one");
    check(&["sink.arrow.path=''"], "sink.arrow.path", "expected the name of a file");
    check(&["window.tokens=0"], "window.tokens", "found 0");
    check(&["window.in_flight_bytes=1000"], "window.in_flight_bytes", "found 1000; expected at least");
    check(&["window.bytes=2000000000"], "window.bytes", "found 2000000000; expected at most");
    check(&["batch.rows=0"], "batch.rows", "found 0");
    check(&["devices=[cuda:0, 'cuda:0']"], "devices", "cuda:0");
    check(&["devices=[tpu]"], "devices", "tpu");
    check(&["model.max_seq_length=0"], "model.max_seq_length", "0");
    check(&["output.precision=int8"], "output.ranges", "embedmill calibrate");
    check(&["output.ranges=[0, 1]"], "output.ranges", "does not use");
    check(&["output.precision=uint8", "output.ranges=[1, 1]"], "output.ranges", "smaller one first");
    check(
        &["sink={ranges: {path: r.json}}", "sink.arrow=null", "output.precision=binary"],
        "output.precision",
        "calibrates float32",
    );
    check(&["model.pooling=[cls, cls]"], "model.pooling", "found cls twice; expected each mode once");
    check(&["model.prompt=a", "model.prompt_name=b"], "model.prompt_name", "beside model.prompt");
    check(&["dead_letter.path=out.arrow"], "dead_letter.path", "same file");
    check(
        &["source={kafka: {brokers: b, topics: [t], group: g}}", "source.files=null"],
        "sink.arrow.path",
        "expected a folder, such as out.arrow/",
    );
    check(
        &["sink.arrow=null", "sink.kafka={brokers: b, topic: t}", "delivery=exactly_once"],
        "source.files.checkpoint",
        "missing; expected a name with delivery: exactly_once",
    );
    check(&["source.files.checkpoint=c"], "source.files.checkpoint", "or `sink.kafka`");
    check(&["source.files.paths=['-']", "source.files.checkpoint=c"], "source.files.checkpoint", "standard input");
    check(&["source.files.shard={index: 4, count: 4}"], "source.files.shard.index", "counted from 0");
    check(&["source.files.shard={index: 0, count: 0}"], "source.files.shard.count", "found 0");
    check(&["source.files.paths=['-']", "source.files.shard={index: 0, count: 1}"], "source.files.shard", "input");
    check(&["record.template='{{'"], "record.template", "syntax error");
    check(&["drain_ms=0"], "drain_ms", "found 0");
    check(&["log=loud=very"], "log", "expected error, warn");
    check(&["observe.otlp.endpoint=localhost:4318"], "observe.otlp.endpoint", "http://localhost:4318");
    check(&["observe.otlp.sample_ratio=2"], "observe.otlp.sample_ratio", "found 2");
    check(&["observe.listen=9464"], "observe.listen", "expected an address and a port");
}

#[test]
fn a_topic_is_not_read_and_written() {
    let topics = |topics: &str, more: &str| {
        let source = format!("source={{kafka: {{brokers: b, group: g, topics: [{topics}]}}}}");
        let sink = "sink={kafka: {topic: vectors}}";
        let set = [&source, "source.files=null", sink, "sink.arrow=null", more];
        let config = Layers::from_texts(&[("p.yaml", GOOD)], &[], &set).load().unwrap();
        Plan::new(&config).map(drop).map_err(|error| error.to_string())
    };
    let dead_letters = "dead_letter={topic: rejected}";
    assert_eq!(topics("documents, '^doc.*'", dead_letters), Ok(()));
    for (names, more, key) in [
        ("vectors", dead_letters, "sink.kafka.topic"),
        ("'^.*'", dead_letters, "sink.kafka.topic"),
        ("'^rej'", dead_letters, "dead_letter.topic"),
        ("documents", "dead_letter={topic: vectors}", "dead_letter.topic"),
        ("'^doc['", dead_letters, "source.kafka.topics"),
        ("documents", "source.kafka.properties={auto.offset.reset: latest}", "source.kafka.properties"),
    ] {
        let refused = topics(names, more).expect_err(names);
        assert!(refused.contains(key), "{refused}");
    }
}

#[test]
fn a_shard_writes_under_names_of_its_own() {
    let set = ["source.files.shard.index=${JOB_COMPLETION_INDEX}", "source.files.shard.count=${COUNT:-16}"];
    let explained = |more: &[&str]| {
        let set: Vec<&str> = set.iter().chain(more).copied().collect();
        let config = Layers::from_texts(&[("p.yaml", GOOD)], &[("JOB_COMPLETION_INDEX", "3")], &set).load().unwrap();
        Plan::new(&config).unwrap()
    };
    let text = explained(&["dead_letter.path=no.jsonl"]).explain(None);
    for part in ["a.jsonl (auto), shard 4 of 16", "out-0003-of-0016.arrow", "no-0003-of-0016.jsonl"] {
        assert!(text.contains(part), "{text}");
    }
    let topic = ["sink={kafka: {brokers: b, topic: t}}", "sink.arrow=null", "delivery=exactly_once"];
    let plan = explained(&[&topic[..], &["source.files.checkpoint=all"]].concat());
    let SourcePlan::Files(files) = plan.source else { panic!("files") };
    assert_eq!(files.checkpoint.as_deref(), Some("all-0003-of-0016"));
    assert!(explained(&["sink.arrow.path=out/"]).explain(None).contains("in out/,"));
}

//! Traces: a fake collector receives what a run exports by OTLP, decodes the protocol, and checks the spans.

use std::net::TcpListener;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use predicates::prelude::*;

use super::cli::{embedmill, folder_with};
use super::collector::collector;

const PIPELINE: &str = "
source: { files: { paths: [in.jsonl] } }
record: { id: id }
window: { records: 40 }
batch: { rows: 16 }
model: { backend: hash, hash_dim: 8 }
devices: [cpu, cpu]
sink: { arrow: { path: out.arrow } }
dead_letter: { path: rejected.jsonl }
";

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| {
        match &attribute.value.as_ref()?.value {
            Some(Any::StringValue(text)) => Some(text.clone()),
            Some(Any::IntValue(number)) => Some(number.to_string()),
            _ => None,
        }
    })
}

fn number(span: &Span, key: &str) -> u64 {
    text(&span.attributes, key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key} of {span:?}"))
}

fn input() -> String {
    let line = |index: usize| match index % 50 {
        7 => "{broken\n".to_string(),
        _ => format!("{{\"id\": \"{index}\", \"text\": \"{}\"}}\n", "word ".repeat(1 + index % 9)),
    };
    (0..200).map(line).collect()
}

#[test]
fn a_window_is_a_trace_with_its_stages() {
    let (address, taken) = collector();
    let with = format!(
        "{PIPELINE}observe: {{ listen: '127.0.0.1:0', otlp: {{ endpoint: '{address}/', headers: {{ x-who: me }} }} }}\n"
    );
    let folder = folder_with(&[("pipeline.yaml", &with), ("in.jsonl", &input())]);
    embedmill(folder.path()).args(["run", "pipeline.yaml"]).env("OTEL_SERVICE_NAME", "the test's").assert().success();
    let mut spans: Vec<Span> = Vec::new();
    while let Ok((head, request)) = taken.recv_timeout(Duration::from_millis(500)) {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf") && head.contains("x-who: me"), "{head}");
        for resource in request.resource_spans {
            let attributes = resource.resource.expect("a resource").attributes;
            assert_eq!(text(&attributes, "service.name").as_deref(), Some("the test's"));
            assert_eq!(text(&attributes, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let windows: Vec<&Span> = spans.iter().filter(|span| span.name == "window").collect();
    assert_eq!(windows.len(), 5, "200 records, 40 a window");
    let sum = |key: &str| windows.iter().map(|window| number(window, key)).sum::<u64>();
    assert_eq!((sum("embedmill.records"), sum("embedmill.published"), sum("embedmill.dead_lettered")), (200, 196, 4));
    for window in windows {
        assert!(window.parent_span_id.is_empty(), "a window is a trace's root");
        let under = |parent: &Span, name: &str| -> Vec<&Span> {
            let is_it = |span: &&Span| span.parent_span_id == parent.span_id && span.name == name;
            let found: Vec<&Span> = spans.iter().filter(is_it).collect();
            for span in &found {
                assert_eq!(span.trace_id, window.trace_id);
                assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
                // Timestamps come of two clocks, a little apart.
                let slack = 2_000_000;
                assert!(span.start_time_unix_nano + slack >= window.start_time_unix_nano, "{span:?} in {window:?}");
                assert!(span.end_time_unix_nano <= window.end_time_unix_nano + slack, "{span:?} in {window:?}");
            }
            found
        };
        let stages = ["source", "tokenize", "encode", "publish", "commit"].map(|stage| {
            let found = under(window, stage);
            assert_eq!(found.len(), 1, "{stage} of {window:?}");
            found[0]
        });
        let ends = stages.map(|stage| stage.end_time_unix_nano);
        assert!(ends[2] <= ends[3] + 2_000_000 && ends[3] <= ends[4] + 2_000_000, "{ends:?}");
        let batches = under(stages[2], "batch");
        assert_eq!(batches.len() as u64, number(stages[2], "embedmill.batches"));
        assert_eq!(
            batches.iter().map(|batch| number(batch, "embedmill.rows")).sum::<u64>(),
            number(window, "embedmill.rows")
        );
        assert!(batches.iter().all(|batch| text(&batch.attributes, "embedmill.device").as_deref() == Some("cpu")));
    }
}

#[test]
fn the_environment_alone_turns_traces_on_and_off() {
    let (address, taken) = collector();
    let folder = folder_with(&[("pipeline.yaml", PIPELINE), ("in.jsonl", &input())]);
    let run = |name: &str, value: &str| {
        let mut run = embedmill(folder.path());
        run.args(["run", "pipeline.yaml"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &address).env(name, value).assert()
    };
    run("OTEL_SDK_DISABLED", "true").success();
    assert!(taken.try_recv().is_err());
    run("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .code(2)
        .stderr(predicate::str::contains("OTEL_EXPORTER_OTLP_PROTOCOL: found \"grpc\"; expected http/protobuf"));
    run("OTEL_SERVICE_NAME", "").success();
    let (_, request) = taken.recv_timeout(Duration::from_secs(10)).expect("spans come");
    let name =
        request.resource_spans[0].resource.as_ref().and_then(|resource| text(&resource.attributes, "service.name"));
    assert_eq!(name.as_deref(), Some("embedmill"));
}

#[test]
fn a_collector_that_is_away_does_not_stop_a_run() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE), ("in.jsonl", &input())]);
    let away =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port that is free again");
    let ran = embedmill(folder.path())
        .args(["run", "pipeline.yaml"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{away}"))
        .timeout(Duration::from_secs(30))
        .assert();
    ran.success().stderr(predicate::str::contains("trace export failed").and(predicate::str::contains("196 rows")));
}

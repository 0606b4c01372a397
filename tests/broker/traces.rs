//! The context of a window's trace travels in its messages, and links to the windows that are made from them.

use std::collections::BTreeSet;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::cluster::{Pipeline, create_topics, document, ids, produce, read};
use crate::collector::collector;
use crate::server::shared;

/// Runs the pipeline with a collector of traces; returns the windows' spans.
fn windows(addr: &str, topics: [&str; 2], more: &str, set: &[&str]) -> Vec<Span> {
    let (address, taken) = collector();
    let observe = format!("observe: {{ listen: '127.0.0.1:0', otlp: {{ endpoint: '{address}' }} }}\n");
    Pipeline::new(addr, topics, topics[0], &format!("{more}{observe}")).run(set);
    let mut spans = Vec::new();
    while let Ok((_, request)) = taken.recv_timeout(Duration::from_millis(500)) {
        spans.extend(request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans));
    }
    let commits = spans.iter().filter(|span| span.name == "commit").count();
    spans.retain(|span| span.name == "window");
    assert!(!spans.is_empty() && commits == spans.len(), "{commits} commits of {} windows", spans.len());
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_carry_the_context_of_their_window() {
    let addr = shared().addr();
    create_topics(addr, &[("trace-in", 2), ("trace-mid", 2), ("trace-out", 1)], &[]);
    let documents: Vec<_> = (0..200).map(|index| document(index % 2, &format!("{index:03}"), "some words")).collect();
    produce(addr, "trace-in", &documents);
    let first = windows(addr, ["trace-in", "trace-mid"], "window: { records: 50 }\ndelivery: exactly_once\n", &[]);
    let contexts: BTreeSet<String> =
        first.iter().map(|window| format!("00-{}-{}-01", hex(&window.trace_id), hex(&window.span_id))).collect();
    let carried: BTreeSet<String> =
        read(addr, "trace-mid").iter().map(|message| message.headers["traceparent"].clone()).collect();
    assert_eq!(carried, contexts);

    // The windows of a second pipeline after it have traces of their own, with links to the windows they come from.
    let second = windows(addr, ["trace-mid", "trace-out"], "", &["--set", "source.kafka.format=arrow"]);
    let linked: BTreeSet<String> =
        second.iter().flat_map(|window| &window.links).map(|link| hex(&link.trace_id)).collect();
    assert_eq!(linked, first.iter().map(|window| hex(&window.trace_id)).collect());
    assert!(second.iter().all(|window| window.parent_span_id.is_empty() && !linked.contains(&hex(&window.trace_id))));
    assert_eq!(ids(addr, "trace-out").values().map(Vec::len).sum::<usize>(), 200);
}

//! A run as it shows itself: metrics that add up with what went in and came out, readiness, status, `top`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use embedmill::internal::telemetry::names;
use predicates::prelude::*;
use serde_json::{Value, json};

use super::cli::{embedmill, folder_with, spawn_run};
use super::prometheus::{Scrape, parse};

const LIMIT: Duration = Duration::from_secs(60);

const PIPELINE: &str = "
source: { files: { paths: ['-'], format: jsonl } }
record: { id: id }
window: { records: 50, linger_ms: 20 }
model: { backend: hash, hash_dim: 8, max_seq_length: 16 }
devices: [cpu, cpu]
sink: { stdout: {} }
dead_letter: { path: rejected.jsonl }
observe: { listen: '127.0.0.1:0' }
";

/// A run from standard input to standard output.
struct Run {
    child: Child,
    input: Option<ChildStdin>,
    rows: mpsc::Receiver<Value>,
    url: String,
}

impl Run {
    fn start(folder: &Path, arguments: &[&str]) -> Run {
        let mut child = spawn_run(folder, arguments);
        let (url_in, url) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Logs are JSON where standard error is no terminal.
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(url) = line["fields"]["url"].as_str() {
                    let _ = url_in.send(url.to_string());
                }
            }
        });
        let (rows_in, rows) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = rows_in.send(serde_json::from_str(&line).expect("a row is JSON"));
            }
        });
        let url = url.recv_timeout(LIMIT).expect("the log tells the address");
        Run { input: child.stdin.take(), child, rows, url }
    }

    fn write(&mut self, lines: &str) {
        self.input.as_mut().expect("it is open").write_all(lines.as_bytes()).expect("it is read");
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.url)).expect("it answers")
    }

    /// The metrics once all of `records` are settled.
    fn settled(&self, records: u64) -> Scrape {
        let started = Instant::now();
        loop {
            let scrape = parse(&self.get("/metrics").1);
            let settled = scrape.sum("embedmill_records_total", &[]);
            if settled as u64 == records {
                // A page's counters are read one after the other; this page is of after the last.
                return parse(&self.get("/metrics").1);
            }
            assert!(started.elapsed() < LIMIT, "{settled} of {records} are settled");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().expect("it is a child").success());
        assert!(get(&self.url).is_none(), "the endpoint goes with the run");
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(LIMIT)).proxy(None).http_status_as_error(false).build().into()
}

fn get(url: &str) -> Option<(u16, String)> {
    let mut response = agent().get(url).call().ok()?;
    Some((response.status().as_u16(), response.body_mut().read_to_string().expect("text")))
}

/// 500 records: 7 that are no JSON, and every tenth text longer than the 16 tokens that the model takes.
fn lines() -> String {
    let line = |index: usize| {
        if index % 70 == 3 && index < 490 {
            return "{broken\n".to_string();
        }
        let text = "word ".repeat(if index.is_multiple_of(10) { 20 } else { 1 + index % 13 });
        json!({ "id": index.to_string(), "text": text }).to_string() + "\n"
    };
    (0..500).map(line).collect()
}

#[test]
fn the_metrics_add_up_with_what_came_out() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let mut run = Run::start(folder.path(), &[]);
    run.write(&lines());
    let scrape = run.settled(500);
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels) as u64;
    let rows: Vec<Value> =
        (0..493).map(|_| run.rows.recv_timeout(LIMIT).expect("a row a record that is no poison")).collect();
    let of_rows = |column: &str| rows.iter().filter_map(|row| row[column].as_u64()).sum::<u64>();

    assert_eq!(sum("embedmill_records_read_total", &[]), 500);
    for (outcome, count) in [("published", 493), ("dead_lettered", 7), ("deleted", 0), ("abandoned", 0)] {
        assert_eq!(sum("embedmill_records_total", &[("outcome", outcome)]), count, "{outcome}");
    }
    assert_eq!(sum("embedmill_dead_letters_total", &[]), 7);
    assert_eq!(sum("embedmill_dead_letters_total", &[("stage", "extract")]), 7);
    assert_eq!(sum("embedmill_rows_total", &[]), 493);
    assert_eq!(sum("embedmill_tokens_total", &[]), of_rows("tokens"));
    assert_eq!(sum("embedmill_truncated_tokens_total", &[]), of_rows("truncated"));
    assert!(of_rows("truncated") > 0 && sum("embedmill_truncated_rows_total", &[]) > 0);

    let windows = sum("embedmill_windows_settled_total", &[]);
    assert!(windows >= 10);
    assert_eq!(sum("embedmill_windows_total", &[]), windows);
    assert_eq!(sum("embedmill_window_age_seconds_count", &[]), windows);
    assert_eq!(sum("embedmill_publish_seconds_count", &[]), windows);
    assert_eq!(sum("embedmill_latency_seconds_count", &[]), 2 * windows);
    let batches = sum("embedmill_batches_total", &[]);
    assert_eq!(sum("embedmill_encode_seconds_count", &[("device", "cpu")]), batches);
    assert_eq!(sum("embedmill_batch_fill_ratio_count", &[]), batches);
    assert_eq!(sum("embedmill_windows_in_flight", &[]), 0);
    assert!(sum("embedmill_in_flight_limit_bytes", &[]) > 1 << 20);
    assert_eq!(sum("embedmill_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
    assert_eq!(sum("embedmill_model_info", &[("dim", "8")]), 1);
    assert_eq!((sum("embedmill_ready", &[]), run.get("/ready")), (1, (200, "ready\n".into())));
    run.end();
}

#[test]
fn every_metric_is_of_the_list() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let mut run = Run::start(folder.path(), &[]);
    run.write(&lines());
    let scrape = run.settled(500);
    for (name, (kind, help)) in &scrape.families {
        let (known, metric) = names::ALL
            .iter()
            .find(|(_, metric)| metric.name == name)
            .unwrap_or_else(|| panic!("{name} is not in telemetry/names.rs"));
        assert_eq!((known.as_str(), metric.help), (kind.as_str(), help.as_str()), "{name}");
        for (label, values) in metric.labels.iter().filter(|(_, values)| !values.is_empty()) {
            let found = scrape.values_of(name, label);
            assert_eq!(found, values.iter().map(|value| value.to_string()).collect(), "{name}");
        }
    }
    // Counters are there before anything is counted, or a rate would miss the first.
    let counters =
        names::ALL.iter().filter(|(kind, metric)| *kind == names::MetricKind::Counter && metric.labels.len() < 2);
    counters.for_each(|(_, metric)| assert!(scrape.families.contains_key(metric.name), "{} is missing", metric.name));
    run.end();
}

#[test]
fn the_status_and_top_tell_the_same() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let mut run = Run::start(folder.path(), &[]);
    run.write(&lines());
    run.settled(500);
    let (code, status) = run.get("/status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((code, &status["phase"], &status["not_ready"]), (200, &json!("running"), &Value::Null));
    let counters = &status["counters"];
    assert_eq!((&counters["records_read"], &counters["records_published"]), (&json!(500), &json!(493)));
    assert_eq!((&counters["records_dead_lettered"], &counters["rows"]), (&json!(7), &json!(493)));
    assert_eq!(status["positions"], json!([{ "partition": "-", "next_offset": 500, "end_offset": null }]));
    assert_eq!(status["devices"].as_array().map(Vec::len), Some(2));
    let stages: Vec<_> = status["plan"].as_array().expect("lines").iter().map(|line| line["stage"].clone()).collect();
    assert!(stages.contains(&json!("source")) && stages.contains(&json!("observe")), "{stages:?}");
    for url in [run.url.clone(), run.url.replace("http://", ""), format!("{}/status", run.url)] {
        let page = predicate::str::contains("500 read, 493 published, 7 dead letters")
            .and(predicate::str::contains("ready"))
            .and(predicate::str::contains("cpu"));
        embedmill(folder.path()).args(["top", &url, "--once"]).assert().success().stdout(page);
    }
    let url = run.url.clone();
    run.end();
    embedmill(folder.path())
        .args(["top", &url, "--once"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("no response").and(predicate::str::contains("observe:")));
}

#[test]
fn a_run_is_live_before_it_is_ready() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    // The kept column's type is that of the first records, which are awaited before the pipeline runs.
    let mut run = Run::start(folder.path(), &["--set", "record.keep=[views]"]);
    assert_eq!(run.get("/live"), (200, "live\n".into()));
    let (code, why) = run.get("/ready");
    assert_eq!(code, 503);
    assert!(why.starts_with("starting: "), "{why}");
    run.write(&"{\"id\": \"1\", \"text\": \"a\", \"views\": 3}\n".repeat(1_100));
    run.settled(1_100);
    assert_eq!(run.get("/ready").0, 200);
    run.end();
}

#[test]
fn unknown_paths_and_methods_get_an_error() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let run = Run::start(folder.path(), &[]);
    let (code, text) = run.get("/metric");
    assert_eq!(code, 404);
    assert!(text.contains("/metrics"), "{text}");
    let posted = agent().post(format!("{}/metrics", run.url)).send_empty().expect("it answers");
    assert_eq!(posted.status(), 405);
    let head = agent().head(format!("{}/live", run.url)).call().expect("it answers");
    assert_eq!(head.status(), 200);
    run.end();
}

#[test]
fn a_port_that_is_taken_is_refused_before_any_data_moves() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("observe.listen={}", taken.local_addr().expect("it has an address"));
    let folder = folder_with(&[
        ("pipeline.yaml", PIPELINE),
        ("a.jsonl", "{\"id\":\"1\",\"text\":\"a\"}\n"),
        ("over.yaml", "source: { files: { paths: [a.jsonl] } }\nsink: { stdout: null, arrow: { path: out/ } }\n"),
    ]);
    embedmill(folder.path())
        .args(["run", "pipeline.yaml", "over.yaml", "--set", &listen])
        .assert()
        .code(2)
        .stdout("")
        .stderr(
            predicate::str::contains("address already in use; expected a free port")
                .and(predicate::str::contains("--set")),
        );
    assert!(!folder.path().join("out").exists() && !folder.path().join("rejected.jsonl").exists());
}

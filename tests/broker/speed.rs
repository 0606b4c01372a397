//! Measures, asserts nothing of time: `make bench-kafka`. From topic to topic, with the broker on the same cores.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::{Pipeline, Sent, create_topics, produce};
use crate::server::Broker;

const SMALL_RECORDS: usize = 1_000_000;
const PARTITIONS: i32 = 4;
const PAIRS: usize = 3;

/// What a run says of itself, and the most memory that it had.
struct Run {
    records: u64,
    seconds: f64,
    peak_mb: f64,
}

/// Runs the command, whose standard error ends with a summary in JSON. The peak is what the kernel says last.
fn run(mut command: Command) -> Run {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("embedmill starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let said = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    let mut peak_kb = 0;
    while child.try_wait().expect("it is a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kb = peak.unwrap_or(peak_kb);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let said = said.join().expect("it reads to the end");
    assert!(child.wait().expect("it is a child").success(), "{}", said.join("\n"));
    let summary = said.iter().rev().find(|line| line.starts_with("{\"dead_lettered\"")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(summary).expect("JSON");
    Run {
        records: summary["records"].as_u64().expect("a number"),
        seconds: summary["seconds"].as_f64().expect("a number"),
        peak_mb: peak_kb as f64 / 1_000.0,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "measures; see make bench-kafka"]
fn speed_of_everything_but_the_model() {
    let broker = Broker::start();
    create_topics(broker.addr(), &[("in", PARTITIONS), ("out", PARTITIONS)], &[]);
    let document = |index: usize| Sent {
        partition: index as i32 % PARTITIONS,
        key: index.to_string(),
        value: Some(format!("{{\"id\":\"{index}\",\"text\":\"a small record of some words, number {index}\"}}")),
    };
    for start in (0..SMALL_RECORDS).step_by(50_000) {
        produce(broker.addr(), "in", &(start..start + 50_000).map(document).collect::<Vec<_>>());
    }
    for delivery in ["at_least_once", "exactly_once"] {
        let rates: Vec<Run> = (0..PAIRS)
            .map(|round| {
                let group = format!("{delivery}-{round}");
                let pipeline = Pipeline::new(broker.addr(), ["in", "out"], &group, &format!("delivery: {delivery}\n"));
                run(pipeline.command(&["--until-end", "--summary", "json"]))
            })
            .collect();
        let shown: Vec<String> = rates
            .iter()
            .map(|run| format!("{:.0} records/s, {:.0} MB", run.records as f64 / run.seconds, run.peak_mb))
            .collect();
        println!("{delivery}, {SMALL_RECORDS} records waiting, hash encoder of 8 dims: {}", shown.join("; "));
    }
}

/// The texts of `demo/corpus.jsonl`, through the real model: from topic to topic against `encode` of the same file.
#[test]
#[ignore = "measures; see make bench-kafka"]
fn speed_against_the_bare_encoder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = folder.path().join("corpus.jsonl");
    let python = |arguments: &[&str]| {
        let output = Command::new("python3").args(arguments).current_dir(root).output().expect("python3 is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    python(&["scripts/corpus.py", &corpus.display().to_string()]);
    let model = python(&["scripts/setup", "--print", "model"]);
    let lines = BufReader::new(File::open(&corpus).expect("it was just made")).lines();
    let sent = |(index, line): (usize, Result<String, _>)| Sent {
        partition: index as i32 % PARTITIONS,
        key: index.to_string(),
        value: Some(line.expect("text")),
    };
    let broker = Broker::start();
    create_topics(broker.addr(), &[("in", PARTITIONS), ("out", PARTITIONS)], &[]);
    produce(broker.addr(), "in", &lines.enumerate().map(sent).collect::<Vec<_>>());
    let mut ratios = Vec::new();
    for round in 0..PAIRS {
        let more = format!("delivery: exactly_once\nmodel: {{ backend: torch, id: '{model}' }}\n");
        let group = format!("real-{round}");
        let pipeline = Pipeline::with_model(broker.addr(), ["in", "out"], &group, &more);
        let kafka = run(pipeline.command(&["--until-end", "--summary", "json"]));
        let mut encode = Command::new(env!("CARGO_BIN_EXE_embedmill"));
        encode.args(["encode", "--text", "text", "--id", "id", "--summary", "json", "--model", &model, "-o"]);
        let encode = run({
            encode.arg(folder.path().join("out.arrow")).arg(&corpus);
            encode
        });
        assert_eq!(kafka.records, encode.records);
        println!(
            "{} paragraphs: topic to topic exactly once {:.2} s, encode {:.2} s; peaks {:.0} and {:.0} MB",
            kafka.records, kafka.seconds, encode.seconds, kafka.peak_mb, encode.peak_mb
        );
        ratios.push(encode.seconds / kafka.seconds);
    }
    println!("speed against the bare encoder: {:.3} (pairs: {ratios:.3?})", median(ratios.clone()));
}

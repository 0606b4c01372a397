//! Ctrl-C, SIGTERM and kill: what is finished, what is discarded, what is left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cli::{folder_with, spawn, spawn_run};

/// Runs `encode -` with its input held open.
fn start(folder: &Path, output: &str) -> Child {
    start_with(folder, &["--format", "text", "-o", output])
}

fn start_with(folder: &Path, args: &[&str]) -> Child {
    spawn(folder, &[&["encode", "-", "--backend", "hash"], args].concat())
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
}

/// The exit code, or the test fails: stopping must not hang.
fn code(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("it can be killed");
    panic!("it does not stop");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_stream_to_standard_output_is_finished() {
    for signal in ["-INT", "-TERM"] {
        let folder = folder_with(&[]);
        let mut child = start(folder.path(), "-");
        let mut input = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        writeln!(input, "one\ntwo").expect("written");
        let mut line = String::new();
        // The window closes by age while the input stays open.
        output.read_line(&mut line).expect("the first row");
        assert!(line.contains("\"text\":\"one\""), "{line}");
        send(signal, &child);
        // The source sits in a read of standard input; the end of input, or the next line, lets it go.
        drop(input);
        assert_eq!(code(child), Some(0));
        line.clear();
        output.read_to_string(&mut line).expect("the rest");
        assert!(line.contains("\"text\":\"two\""), "{line}");
    }
}

/// A run that waits for its first records, to see of what types their columns are.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_still_starting_ends_at_once() {
    let folder = folder_with(&[]);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("embedmill"))
        .args(["encode", "-", "--format", "jsonl", "--keep", "n", "--backend", "hash", "-o", "-"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let catches = |child: &Child| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
        caught.is_some_and(|caught| caught & 1 << 14 != 0)
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !catches(&child) {
        assert!(Instant::now() < deadline, "SIGTERM is not caught");
        std::thread::sleep(Duration::from_millis(10));
    }
    send("-TERM", &child);
    let mut errors = child.stderr.take().expect("its log");
    assert_eq!(code(child), Some(1));
    let mut said = String::new();
    errors.read_to_string(&mut said).expect("its log");
    assert!(said.contains("stopped while starting"), "{said}");
}

#[test]
fn a_single_file_is_discarded() {
    let folder = folder_with(&[]);
    let mut child = start(folder.path(), "out.arrow");
    let mut input = child.stdin.take().expect("its input");
    writeln!(input, "{}", "a line\n".repeat(50_000)).expect("written");
    wait_for_temporary(folder.path());
    send("-INT", &child);
    assert_eq!(code(child), Some(1));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_kill_leaves_nothing_under_the_final_name() {
    let folder = folder_with(&[]);
    let mut child = start(folder.path(), "out.arrow");
    let mut input = child.stdin.take().expect("its input");
    writeln!(input, "{}", "a line\n".repeat(50_000)).expect("written");
    wait_for_temporary(folder.path());
    send("-KILL", &child);
    assert_eq!(code(child), None);
    let left = names(folder.path());
    assert!(left.iter().all(|name| name.starts_with(".out.arrow.") && name.ends_with(".tmp")), "{left:?}");
}

fn wait_for_temporary(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while names(folder).is_empty() {
        assert!(Instant::now() < deadline, "no output is begun");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const PIPELINE: &str = "
source: { files: { paths: ['-'], format: text } }
window: { records: 50, linger_ms: 20 }
model: { backend: hash, hash_dim: 64 }
devices: [cpu]
sink: { stdout: {} }
drain_ms: 700
";

/// `run pipeline.yaml`, with its log as it comes.
struct Run {
    child: Child,
    log: std::sync::mpsc::Receiver<Value>,
}

impl Run {
    fn start(folder: &Path) -> Run {
        let mut child = spawn_run(folder, &[]);
        let (log_in, log) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("its log"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // What is no JSON is a message to people.
                let _ = log_in.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let run = Run { child, log };
        run.logged("started");
        run
    }

    /// The fields of the next line of the log with this message, or the next line to people that has this in it.
    fn logged(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("{message:?} is not logged"));
            if line["fields"]["message"] == message || line.as_str().is_some_and(|line| line.contains(message)) {
                return line["fields"].clone();
            }
        }
    }
}

/// Fills standard output, which nobody reads, so that publishing cannot go on.
fn choke(run: &mut Run) {
    let mut input = run.child.stdin.take().expect("its input");
    let written = Arc::new(AtomicU64::new(0));
    let count = written.clone();
    std::thread::spawn(move || {
        let lines = "many words that become a row of some size\n".repeat(20);
        while input.write_all(lines.as_bytes()).is_ok() {
            count.fetch_add(1, Relaxed);
        }
    });
    // Once no input is taken for a while, everything behind it is full.
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        match written.load(Relaxed) {
            now if now > 0 && now == before => break,
            now => before = now,
        }
    }
}

/// Kept columns without a type have those of the first records that come, and nobody waits for more.
#[test]
fn the_first_record_of_a_stream_is_answered_alone() {
    let folder = folder_with(&[]);
    let mut child = start_with(folder.path(), &["--format", "jsonl", "--text", "text", "--keep", "n,s", "-o", "-"]);
    let mut input = child.stdin.take().expect("its input");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    for number in [1, 20] {
        writeln!(input, r#"{{"text": "the river", "n": {number}, "s": "a"}}"#).expect("written");
        let mut line = String::new();
        output.read_line(&mut line).expect("a row");
        let row: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&row["n"], &row["s"]), (&number.into(), &"a".into()), "{line}");
    }
    drop(input);
    assert_eq!(code(child), Some(0));
}

#[test]
fn a_drain_has_a_budget_and_a_second_signal_stops_at_once() {
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let mut run = Run::start(folder.path());
    choke(&mut run);
    let began = Instant::now();
    send("-TERM", &run.child);
    run.logged("stopping: finishing records already read");
    run.logged("stopping took longer than drain_ms, 700 ms");
    assert_eq!(code(run.child), Some(1));
    let took = began.elapsed();
    assert!((700..6_000).contains(&took.as_millis()), "{took:?}");

    let folder = folder_with(&[("pipeline.yaml", &PIPELINE.replace("700", "600000"))]);
    let mut run = Run::start(folder.path());
    choke(&mut run);
    send("-TERM", &run.child);
    run.logged("stopping: finishing records already read");
    let began = Instant::now();
    send("-TERM", &run.child);
    assert_eq!(code(run.child), Some(1));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn the_file_is_read_again_on_sighup() {
    const RELOADED: &str = "pipeline file reloaded";
    let folder = folder_with(&[("pipeline.yaml", PIPELINE)]);
    let write = |text: &str| std::fs::write(folder.path().join("pipeline.yaml"), text).expect("written");
    let mut run = Run::start(folder.path());
    let mut input = run.child.stdin.take().expect("its input");
    let mut output = BufReader::new(run.child.stdout.take().expect("its output"));
    let mut pass = |text: &str| {
        writeln!(input, "{text}").expect("written");
        let mut line = String::new();
        output.read_line(&mut line).expect("a row");
        assert!(line.contains(text), "{line}");
    };
    pass("as it began");

    send("-HUP", &run.child);
    assert_eq!(run.logged(RELOADED)["applied"], "nothing");

    write(
        &PIPELINE
            .replace("linger_ms: 20", "linger_ms: 5, tokens: 4096")
            .replace("records: 50", "records: 60")
            .replace("[cpu]", "[cpu, cpu]"),
    );
    send("-HUP", &run.child);
    assert_eq!(run.logged(RELOADED)["applied"], "window.linger_ms, window.tokens");
    let needs_restart = "changed key needs a restart; keeping its previous value";
    assert_eq!([(); 2].map(|()| run.logged(needs_restart)["key"].clone()), ["devices", "window.records"]);
    pass("after a change");

    // What cannot be planned changes nothing, and the run goes on.
    for (wrong, told) in [
        (PIPELINE.replace("window:", "widow:"), "did you mean `window`?"),
        (PIPELINE.replace("linger_ms: 20", "tokens: 0"), "window.tokens: found 0; expected at least 1"),
        (String::from("{"), "invalid YAML"),
    ] {
        write(&wrong);
        send("-HUP", &run.child);
        let refused = run.logged("pipeline file rejected; continuing with the previous settings");
        assert!(refused["error"].as_str().is_some_and(|error| error.contains(told)), "{refused}");
        pass("after a mistake");
    }

    // The log's level too, both ways. A warning says that the first has been read; that it was is below its level.
    write(&format!("{}log: warn\n", PIPELINE.replace("records: 50", "records: 60")));
    send("-HUP", &run.child);
    assert_eq!(run.logged(needs_restart)["key"], "window.records");
    write(&format!("{PIPELINE}log: info\n"));
    send("-HUP", &run.child);
    assert_eq!(run.logged(RELOADED)["applied"], "log");
    drop(input);
    assert_eq!(code(run.child), Some(0));
}

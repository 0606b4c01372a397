//! Ctrl-C, SIGTERM and kill: what is finished, what is given up, what is left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cli::folder_with;

/// Runs `encode -` with its input held open.
fn start(folder: &Path, output: &str) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("embedmill"))
        .args(["encode", "-", "--format", "text", "--backend", "hash", "-o", output])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
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

#[test]
fn a_drain_that_takes_too_long_is_given_up() {
    let folder = folder_with(&[(
        "p.yaml",
        "source: {files: {paths: ['-'], format: text}}\nmodel: {backend: hash}\nsink: {stdout: {format: jsonl}}\n",
    )]);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("embedmill"))
        .args(["run", "p.yaml", "--set", "drain_ms=300"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    // More rows than a pipe holds, and nobody who reads them but the first.
    let writer = std::thread::spawn(move || {
        let _ = input.write_all("a line\n".repeat(5_000).as_bytes());
        input
    });
    let mut line = String::new();
    output.read_line(&mut line).expect("the first row");
    let stopped = Instant::now();
    send("-TERM", &child);
    let mut errors = BufReader::new(child.stderr.take().expect("its log"));
    assert_eq!(code(child), Some(1));
    assert!(stopped.elapsed() >= Duration::from_millis(300), "{:?}", stopped.elapsed());
    let mut said = String::new();
    errors.read_to_string(&mut said).expect("its log");
    assert!(said.contains("giving up"), "{said}");
    drop((writer.join(), output));
}

#[test]
fn a_single_file_is_given_up() {
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

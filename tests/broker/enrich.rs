//! From topic to topic, without failures.

use std::collections::BTreeMap;

use crate::cluster::{LIMIT, Pipeline, Sent, create_topics, document, ids, ids_in_files, produce, read, stop};
use crate::server::shared;

/// `count` documents in turn over the partitions. An id holds the partition and the index in it.
fn documents(partitions: i32, count: usize) -> Vec<Sent> {
    let text = |index: usize| format!("document {index} {}", "word ".repeat(index % 20));
    (0..count)
        .map(|index| {
            let partition = index as i32 % partitions;
            document(partition, &format!("{partition}-{:05}", index / partitions as usize), &text(index))
        })
        .collect()
}

fn expected(documents: &[Sent]) -> BTreeMap<i32, Vec<String>> {
    let mut expected = BTreeMap::<i32, Vec<String>>::new();
    documents.iter().for_each(|sent| expected.entry(sent.partition).or_default().push(sent.key.clone()));
    expected
}

#[test]
fn every_document_becomes_a_row_in_order_and_once() {
    let addr = shared().addr();
    for (delivery, from, to) in [("at_least_once", "a-in", "a-out"), ("exactly_once", "b-in", "b-out")] {
        create_topics(addr, &[(from, 3), (to, 3)], &[]);
        let documents = documents(3, 5_000);
        produce(addr, from, &documents);
        let pipeline = Pipeline::new(addr, [from, to], from, &format!("delivery: {delivery}\n"));
        let summary = pipeline.run(&[]);
        assert_eq!((&summary["records"], &summary["rows"]), (&5_000.into(), &5_000.into()), "{summary}");
        assert_eq!(ids(addr, to), expected(&documents), "{delivery}");
        // The offsets are committed: a second run finds nothing.
        assert_eq!(pipeline.run(&[])["records"], 0);
        let more = [document(0, "0-99999", "one more")];
        produce(addr, from, &more);
        assert_eq!(pipeline.run(&[])["rows"], 1);
    }
}

#[test]
fn a_record_that_cannot_be_embedded_goes_to_the_dead_letters_unchanged() {
    let addr = shared().addr();
    create_topics(addr, &[("p-in", 1), ("p-out", 2), ("p-dead", 1)], &[]);
    let mut messages = documents(1, 20);
    messages[7].value = Some("{ this is no JSON".into());
    messages[11].value = Some(r#"{"id": "x", "text": 5}"#.into());
    messages[13].value = None;
    produce(addr, "p-in", &messages);
    let pipeline =
        Pipeline::new(addr, ["p-in", "p-out"], "p", "delivery: exactly_once\ndead_letter: { topic: p-dead }\n");
    let summary = pipeline.run(&[]);
    assert_eq!((&summary["rows"], &summary["dead_lettered"]), (&17.into(), &3.into()), "{summary}");
    let dead = read(addr, "p-dead");
    let header = |index: usize, name: &str| dead[index].headers.get(name).cloned().unwrap_or_default();
    assert_eq!(dead.len(), 3);
    for (index, offset) in [7, 11, 13].into_iter().enumerate() {
        assert_eq!(dead[index].key, Some(messages[offset].key.clone()));
        assert_eq!(header(index, "embedmill.position"), format!("p-in[0]@{offset}"));
        assert_eq!((header(index, "origin"), header(index, "embedmill.stage")), ("test".into(), "extract".into()));
    }
    assert_eq!(dead[0].value.as_deref(), messages[7].value.as_deref().map(str::as_bytes));
    assert!(header(1, "embedmill.cause").contains("`text`"), "{}", header(1, "embedmill.cause"));
    assert!(header(2, "embedmill.cause").contains("delete"), "{}", header(2, "embedmill.cause"));
    assert_eq!(dead[2].value, None);
}

#[test]
fn dead_letters_go_back_once_and_count_their_attempts() {
    let addr = shared().addr();
    create_topics(addr, &[("v-in", 2), ("v-out", 2), ("v-dead", 1)], &[]);
    let mut messages = documents(2, 40);
    messages[3].value = Some(r#"{"id": "1-00001"}"#.into());
    messages[8].value = None;
    produce(addr, "v-in", &messages);
    let pipeline = Pipeline::new(addr, ["v-in", "v-out"], "v", "dead_letter: { topic: v-dead }\n");
    assert_eq!(pipeline.run(&[])["dead_lettered"], 2);
    let replay = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_embedmill"));
        let output = command.arg("replay").arg(pipeline.path()).args(arguments).assert().success();
        String::from_utf8_lossy(&output.get_output().stderr).into_owned()
    };
    assert!(replay(&["--dry-run"]).contains("2 dead letters of v-dead would be replayed"));
    // With another setting the record that had no text has one.
    assert!(replay(&[]).contains("2 dead letters of v-dead replayed"));
    assert!(replay(&[]).contains("0 dead letters of v-dead replayed"));
    let summary = pipeline.run(&["--set", "record.text=id"]);
    assert_eq!((&summary["rows"], &summary["dead_lettered"]), (&1.into(), &1.into()), "{summary}");
    assert_eq!(ids(addr, "v-out")[&1].last().map(String::as_str), Some("1-00001"));
    let dead = read(addr, "v-dead");
    assert_eq!(dead.len(), 3);
    assert_eq!((&dead[2].value, dead[2].key.as_deref()), (&None, Some("0-00004")));
    assert_eq!((dead[2].headers["embedmill.attempt"].as_str(), dead[2].headers["origin"].as_str()), ("2", "test"));
    assert!(replay(&["--stage", "encode"]).contains("skipped 1: they were rejected by other stages"));
}

#[test]
fn a_check_reports_what_exists_and_what_is_missing() {
    let addr = shared().addr();
    create_topics(addr, &[("c-in", 2), ("c-out", 3)], &[("max.message.bytes", "50000")]);
    produce(addr, "c-in", &documents(2, 12));
    let check = |pipeline: &Pipeline| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_embedmill"));
        let output = command.arg("check").arg(pipeline.path()).output().expect("embedmill starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, found) = check(&Pipeline::new(addr, ["c-in", "c-out"], "c", "delivery: exactly_once\n"));
    assert_eq!(code, Some(0), "{found}");
    for part in [
        "topic \"c-in\": 2 partitions, group \"c\" lags by about 12 records",
        "topic \"c-out\": 3 partitions, messages of at most 50000 bytes",
        "transactions: available",
        "model       ",
        "devices     cpu",
    ] {
        assert!(found.contains(part), "{part:?} is not in: {found}");
    }
    let (code, found) = check(&Pipeline::new(addr, ["c-in", "c-nowhere"], "c", ""));
    assert_eq!(code, Some(1));
    assert!(found.contains("FAILED sink        sink.kafka: topic \"c-nowhere\""), "{found}");

    // Topics that would reject every message.
    create_topics(addr, &[("c-keys", 1)], &[("cleanup.policy", "compact")]);
    create_topics(addr, &[("c-narrow", 1)], &[("max.message.bytes", "200")]);
    for (to, more, told) in [
        ("c-keys", "", "sink.kafka: topic \"c-keys\": a compacted topic"),
        ("c-out", "dead_letter: { topic: c-keys }\n", "dead_letter: topic \"c-keys\": a compacted topic"),
        ("c-out", "dead_letter: { topic: c-narrow }\n", "dead_letter: topic \"c-narrow\": found max.message.bytes 200"),
    ] {
        let (code, found) = check(&Pipeline::new(addr, ["c-in", to], "c", more));
        assert_eq!(code, Some(1));
        assert!(found.contains(told), "{found}");
    }
    // The same for dead letters alone, of a pipeline that writes its rows to files.
    let folder = tempfile::tempdir().expect("a folder");
    let sink = format!("sink: {{ arrow: {{ path: '{}/' }} }}\n", folder.path().display());
    for (dead_letter_topic, code, told) in [
        ("c-out", Some(0), "dead_letter topic \"c-out\": 3 partitions"),
        ("c-nowhere", Some(1), "dead_letter: topic \"c-nowhere\": "),
        ("c-keys", Some(1), "dead_letter: topic \"c-keys\": a compacted topic"),
        ("c-narrow", Some(1), "dead_letter: topic \"c-narrow\": found max.message.bytes 200"),
    ] {
        let more = format!("{sink}dead_letter: {{ topic: {dead_letter_topic} }}\n");
        let (found_code, found) = check(&Pipeline::from_topics(addr, "c-in", "c", &more));
        assert_eq!(found_code, code, "{found}");
        assert!(found.contains(told), "{found}");
    }
    let rows = Pipeline::new(addr, ["c-in", "c-keys"], "c", "").run(&["--set", "sink.kafka.layout=row"]);
    assert_eq!(rows["rows"], 12);
}

#[test]
fn rows_have_keys_and_deletes_stay_deletes() {
    let addr = shared().addr();
    create_topics(addr, &[("r-in", 2), ("r-out", 4)], &[]);
    let mut messages = documents(2, 40);
    messages[31].value = None;
    produce(addr, "r-in", &messages);
    let pipeline = Pipeline::new(addr, ["r-in", "r-out"], "r", "delivery: exactly_once\n");
    let summary = pipeline.run(&["--set", "sink.kafka.layout=row"]);
    assert_eq!((&summary["rows"], &summary["deletes"]), (&39.into(), &1.into()), "{summary}");
    let found = read(addr, "r-out");
    let mut keys: Vec<_> = found.iter().map(|found| found.key.clone().expect("a key")).collect();
    for found in &found {
        match &found.value {
            None => assert_eq!(found.key, Some(messages[31].key.clone())),
            Some(_) => assert_eq!(found.ids(), [found.key.clone().expect("a key")]),
        }
    }
    keys.sort();
    let mut expected: Vec<_> = messages.iter().map(|sent| sent.key.clone()).collect();
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn a_window_is_split_below_the_topics_limit() {
    let addr = shared().addr();
    create_topics(addr, &[("l-in", 1)], &[]);
    create_topics(addr, &[("l-out", 1), ("l-dead", 1)], &[("max.message.bytes", "20000")]);
    let mut messages = documents(1, 300);
    messages[5] = document(0, "giant", &"x".repeat(19_000));
    produce(addr, "l-in", &messages);
    let pipeline = Pipeline::new(addr, ["l-in", "l-out"], "l", "dead_letter: { topic: l-dead }\n");
    let summary = pipeline.run(&[]);
    assert_eq!((&summary["rows"], &summary["dead_lettered"]), (&299.into(), &1.into()), "{summary}");
    assert_eq!(ids(addr, "l-out")[&0].len(), 299);
    assert!(read(addr, "l-out").len() > 3);
    let dead = read(addr, "l-dead");
    assert!(dead[0].headers["embedmill.cause"].contains("max.message.bytes"), "{:?}", dead[0].headers);
}

/// What a consumer with nothing but pyarrow sees.
const PYARROW: &str = "
import sys, pyarrow as pa
with pa.ipc.open_stream(sys.argv[1]) as reader:
    table = reader.read_all()
vector = reader.schema.field('vector')
assert vector.type == pa.list_(pa.float32(), 8) and not vector.nullable, vector
assert table.column('id').to_pylist() == ['0-%05d' % index for index in range(20)], table.column('id')
assert len(table.to_batches()) == 1
assert reader.schema.metadata[b'embedmill.dim'] == b'8', reader.schema.metadata
";

#[test]
fn pyarrow_reads_the_messages() {
    let python = |arguments: &[&str]| {
        let mut command = std::process::Command::new("python3");
        command.args(arguments).output().expect("python3 is there")
    };
    if !python(&["-c", "import pyarrow"]).status.success() {
        eprintln!("skipped: this python3 has no pyarrow (python3 -m pip install pyarrow)");
        return;
    }
    let addr = shared().addr();
    create_topics(addr, &[("z-in", 1), ("z-out", 1)], &[]);
    produce(addr, "z-in", &documents(1, 20));
    assert_eq!(Pipeline::new(addr, ["z-in", "z-out"], "z", "").run(&[])["rows"], 20);
    let found = read(addr, "z-out");
    assert_eq!((found.len(), found[0].headers["content-type"].as_str()), (1, "application/vnd.apache.arrow.stream"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), found[0].value.as_deref().expect("a value")).expect("it can be written");
    let output = python(&["-c", PYARROW, &file.path().display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_dead_letter_that_exceeds_its_topics_limit_says_what_is_left_out() {
    let addr = shared().addr();
    create_topics(addr, &[("x-in", 1), ("x-out", 1)], &[]);
    create_topics(addr, &[("x-dead", 1)], &[("max.message.bytes", "20000")]);
    let mut messages = documents(1, 3);
    messages[1].value = Some("{".repeat(500_000));
    produce(addr, "x-in", &messages);
    let pipeline = Pipeline::new(addr, ["x-in", "x-out"], "x", "dead_letter: { topic: x-dead }\n");
    assert_eq!(pipeline.run(&[])["rows"], 2);
    let dead = read(addr, "x-dead");
    assert_eq!((dead.len(), dead[0].key.as_deref()), (1, Some("0-00001")));
    assert_eq!(dead[0].value.as_deref(), Some(&b""[..]));
    assert!(dead[0].headers["embedmill.cause"].contains("left out"), "{:?}", dead[0].headers);
    assert_eq!(dead[0].headers["origin"], "test");
}

#[test]
fn a_record_of_20_mb_passes_or_is_rejected_whole() {
    let addr = shared().addr();
    let large = [("max.message.bytes", "30000000"), ("segment.bytes", "67108864")];
    create_topics(addr, &[("h-in", 1), ("h-wide", 1), ("h-dead", 1)], &large);
    create_topics(addr, &[("h-out", 1)], &[]);
    let mut messages = documents(1, 3);
    messages[1] = document(0, "huge", &"word ".repeat(4_000_000));
    produce(addr, "h-in", &messages);
    let pipeline = |to: &str| {
        let more = "dead_letter: { topic: h-dead }\ndelivery: exactly_once\n";
        Pipeline::new(addr, ["h-in", to], to, more).run(&[])
    };
    let summary = pipeline("h-wide");
    let dead: Vec<_> = read(addr, "h-dead").into_iter().map(|found| found.headers).collect();
    assert_eq!(summary["rows"], 3, "{summary} {dead:?}");
    let found: Vec<String> = ids(addr, "h-wide").remove(&0).unwrap_or_default();
    assert_eq!(found, ["0-00000", "huge", "0-00002"]);

    let summary = pipeline("h-out");
    assert_eq!((&summary["rows"], &summary["dead_lettered"]), (&2.into(), &1.into()), "{summary}");
    let dead = read(addr, "h-dead");
    assert!(dead[0].headers["embedmill.cause"].contains("topic \"h-out\" takes"), "{:?}", dead[0].headers);
    assert!(dead[0].value.as_deref() == messages[1].value.as_deref().map(str::as_bytes), "its value is whole");
}

#[test]
fn topics_of_a_pattern_are_read_to_the_ends_that_they_had() {
    let addr = shared().addr();
    create_topics(addr, &[("m-1", 2), ("m-2", 2), ("m-3", 1), ("y-out", 2)], &[]);
    let documents = documents(2, 3_000);
    produce(addr, "m-1", &documents);
    produce(addr, "m-2", &documents[..500]);
    let pipeline = Pipeline::new(addr, ["'^m-.*'", "y-out"], "y", "delivery: exactly_once\n");
    // A producer that continues does not keep the run from ending.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let feeder = std::thread::spawn({
        let stop = stop.clone();
        let one = [document(0, "late", "late")];
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                produce(addr, "m-1", &one);
            }
        }
    });
    let rows = pipeline.run(&[])["rows"].as_u64().expect("a number");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    feeder.join().expect("it does not panic");
    assert!(rows >= 3_500, "{rows}");
    let found = ids(addr, "y-out").into_values().flatten().filter(|id| id != "late").count();
    assert_eq!(found, 3_500);
}

#[test]
fn a_pattern_that_no_topic_matches_yet_has_nothing_to_read() {
    let addr = shared().addr();
    create_topics(addr, &[("none-out", 1)], &[]);
    let pipeline = Pipeline::from_topics(addr, "'^none-in.*'", "none", "sink: { kafka: { topic: none-out } }\n");
    assert_eq!(pipeline.run(&[])["records"], 0);
}

#[test]
fn reading_begins_at_a_time() {
    let addr = shared().addr();
    create_topics(addr, &[("t-in", 2), ("t-out", 2)], &[]);
    produce(addr, "t-in", &documents(2, 10));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let time = chrono::DateTime::from_timestamp_millis(now as i64).expect("a time").to_rfc3339();
    // The other partition has no message of this time or later.
    produce(addr, "t-in", &[document(1, "young", "young")]);
    let pipeline = Pipeline::new(addr, ["t-in", "t-out"], "t", "");
    assert_eq!(pipeline.run(&["--set", &format!("source.kafka.start='{time}'")])["rows"], 1);
    assert_eq!(ids(addr, "t-out"), BTreeMap::from([(1, vec!["young".to_string()])]));
}

#[test]
fn rows_of_arrow_messages_travel_together() {
    let addr = shared().addr();
    create_topics(addr, &[("w-in", 1), ("w-mid", 1), ("w-out", 1), ("w-dead", 1)], &[]);
    let documents = documents(1, 300);
    produce(addr, "w-in", &documents);
    // embedmill reads what it writes.
    assert_eq!(Pipeline::new(addr, ["w-in", "w-mid"], "w1", "window: { records: 50 }\n").run(&[])["rows"], 300);
    produce(addr, "w-mid", &[document(0, "broken", "no Arrow")]);
    let pipeline = Pipeline::new(addr, ["w-mid", "w-out"], "w2", "dead_letter: { topic: w-dead }\n");
    let format = "source.kafka.format=arrow";
    let summary = pipeline.run(&["--set", format]);
    assert_eq!((&summary["rows"], &summary["dead_lettered"]), (&300.into(), &1.into()), "{summary}");
    assert_eq!(ids(addr, "w-out"), expected(&documents));
    assert!(read(addr, "w-dead")[0].headers["embedmill.cause"].contains("expected an Arrow IPC stream"));
}

#[test]
fn rows_of_a_topic_go_to_files_and_a_second_run_resumes_after_them() {
    let addr = shared().addr();
    create_topics(addr, &[("o-in", 3), ("o-dead", 1)], &[]);
    let mut messages = documents(3, 3_000);
    messages[9].value = Some("{ this is no JSON".into());
    produce(addr, "o-in", &messages);
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!(
        "sink: {{ arrow: {{ path: '{}/', file_rows: 300 }} }}\ndead_letter: {{ topic: o-dead }}\nwindow: {{ records: 100 }}\n",
        folder.path().display()
    );
    // A new group starts at the beginning, but rows that files already hold are skipped, whatever is committed.
    for (group, rows) in [("o1", 2_999), ("o1", 0), ("o2", 2_999)] {
        let pipeline = Pipeline::from_topics(addr, "o-in", group, &more);
        assert_eq!(pipeline.run(&[])["rows"], rows);
        let mut found = ids_in_files(folder.path());
        found.sort();
        let mut all: Vec<String> = messages.iter().map(|sent| sent.key.clone()).filter(|id| *id != "0-00003").collect();
        all.sort();
        assert_eq!(found, all);
    }
    let files = std::fs::read_dir(folder.path()).expect("it is there").count();
    assert!(files >= 9, "{files} files");
    produce(addr, "o-in", &[document(2, "2-99999", "one more")]);
    assert_eq!(Pipeline::from_topics(addr, "o-in", "o2", &more).run(&[])["rows"], 1);
    assert_eq!(ids_in_files(folder.path()).len(), 3_000);
}

#[test]
fn files_go_into_a_topic() {
    let addr = shared().addr();
    create_topics(addr, &[("f-out", 2)], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let lines: String =
        (0..500).map(|index| format!("{{\"id\": \"{index:03}\", \"text\": \"line {index}\"}}\n")).collect();
    std::fs::write(folder.path().join("in.jsonl"), lines).expect("it can be written");
    let pipeline = folder.path().join("pipeline.yaml");
    let text = format!(
        "source: {{ files: {{ paths: ['{}'] }} }}\nrecord: {{ id: id }}\nmodel: {{ backend: hash, hash_dim: 8 }}\n\
         sink: {{ kafka: {{ brokers: '{addr}', topic: f-out }} }}\n",
        folder.path().join("in.jsonl").display()
    );
    std::fs::write(&pipeline, text).expect("it can be written");
    assert_cmd::Command::new(env!("CARGO_BIN_EXE_embedmill")).arg("run").arg(&pipeline).assert().success();
    assert_eq!(ids(addr, "f-out")[&0], (0..500).map(|index| format!("{index:03}")).collect::<Vec<_>>());
}

#[test]
fn files_go_into_a_topic_once_however_often_the_run_is_killed() {
    let addr = shared().addr();
    create_topics(addr, &[("k-out", 2), ("k-dead", 1)], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, from: usize, to: usize| {
        let lines: String =
            (from..to).map(|id| format!("{{\"id\": \"{id:05}\", \"text\": \"line {id}\"}}\n")).collect();
        std::fs::write(folder.path().join(name), lines + "{ no JSON\n").expect("it can be written");
    };
    write("a.jsonl", 0, 20_000);
    write("b.jsonl", 20_000, 30_000);
    let pipeline = folder.path().join("pipeline.yaml");
    let text = format!(
        "source: {{ files: {{ paths: ['{}/*.jsonl'], checkpoint: k }} }}\nrecord: {{ id: id }}\n\
         model: {{ backend: hash, hash_dim: 8 }}\nwindow: {{ records: 200 }}\n\
         sink: {{ kafka: {{ brokers: '{addr}', topic: k-out }} }}\ndelivery: exactly_once\n\
         dead_letter: {{ topic: k-dead }}\n",
        folder.path().display()
    );
    std::fs::write(&pipeline, text).expect("it can be written");
    let command = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_embedmill"));
        command.arg("run").arg(&pipeline).stderr(std::process::Stdio::piped());
        command
    };
    for wait_ms in [900, 1_400, 1_900] {
        let mut child = command().spawn().expect("embedmill starts");
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
    }
    let all = |count: usize| (0..count).map(|id| format!("{id:05}")).collect::<Vec<_>>();
    let found = || {
        let mut found: Vec<String> = ids(addr, "k-out").into_values().flatten().collect();
        found.sort();
        found
    };
    assert_cmd::Command::from_std(command()).assert().success();
    assert_eq!(found(), all(30_000));
    assert_eq!(read(addr, "k-dead").len(), 2);
    // A further run reads only a file that sorts after the others; one that sorts between them is refused.
    write("c.jsonl", 30_000, 30_010);
    assert_cmd::Command::from_std(command()).assert().success();
    assert_eq!(found(), all(30_010));
    write("aa.jsonl", 0, 1);
    let refused = assert_cmd::Command::from_std(command()).assert().code(2);
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("source.files.checkpoint: \"k\": the inputs before number"), "{stderr}");
}

#[test]
fn a_signal_finishes_what_was_read_and_commits_it() {
    let addr = shared().addr();
    create_topics(addr, &[("g-in", 2), ("g-out", 2)], &[]);
    let documents = documents(2, 400);
    produce(addr, "g-in", &documents);
    let pipeline = Pipeline::new(addr, ["g-in", "g-out"], "g", "delivery: exactly_once\n");
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = pipeline.spawn(&folder.path().join("log"));
    let started = std::time::Instant::now();
    while ids(addr, "g-out") != expected(&documents) {
        assert!(started.elapsed() < LIMIT, "the rows do not come");
    }
    stop(&mut child);
    assert_eq!(pipeline.run(&[])["records"], 0);
}

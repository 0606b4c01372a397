//! Instances are killed, suspended and joined by others, and the broker is killed: nothing may be lost, and under
//! exactly_once nothing may be published twice.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Pipeline, Sent, create_topics, document, ids, ids_in_files, produce, read};
use crate::server::Broker;

const PARTITIONS: i32 = 6;
const DOCUMENTS: usize = 30_000;
/// Draining takes a second; after the broker was killed, a transaction may have to time out first.
const STOP_MAX: Duration = Duration::from_secs(120);
/// Every so many documents one is not JSON.
const POISON_EVERY: usize = 997;

/// A small generator, so that a round can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A running embedmill, which is killed as by `kill -9` when this is dropped.
struct Instance(Child);

impl Instance {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill is there");
        assert!(sent.success(), "kill {name}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn documents() -> Vec<Sent> {
    (0..DOCUMENTS)
        .map(|index| {
            let partition = index as i32 % PARTITIONS;
            let id = format!("{partition}-{:06}", index / PARTITIONS as usize);
            let mut sent = document(partition, &id, &format!("document {index}"));
            if index % POISON_EVERY == 0 {
                sent.value = Some("{ no JSON".into());
            }
            sent
        })
        .collect()
}

/// Ids of the rows and of the dead letters, by partition of the input, in order.
fn outcome(addr: &str, rows: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let dead = read(addr, "dead").into_iter().map(|found| format!("dead {}", found.key.unwrap_or_default()));
    let mut outcome = BTreeMap::<String, Vec<String>>::new();
    for id in rows.into_iter().chain(dead) {
        let partition = id.split_once('-').expect("ids have a dash").0.to_string();
        outcome.entry(partition).or_default().push(id);
    }
    outcome
}

/// What is guaranteed, and where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guarantee {
    AtLeastOnce,
    ExactlyOnce,
    /// To files, each row once.
    CommittedFiles,
}

/// One round: instances start and stop while documents are produced; in the end one instance finishes the rest.
fn round(guarantee: Guarantee, seed: u64) {
    eprintln!("chaos: {guarantee:?}, seed {seed}");
    let mut random = Random(seed);
    let mut broker = Broker::start_to_be_killed();
    let addr = broker.addr().to_string();
    create_topics(&addr, &[("in", PARTITIONS), ("out", PARTITIONS), ("dead", PARTITIONS)], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = broker.folder().join("instances.log");
    let out = folder.path().join("out");
    let sink = match guarantee {
        Guarantee::AtLeastOnce => "kafka: { topic: out } }\ndelivery: at_least_once".into(),
        Guarantee::ExactlyOnce => "kafka: { topic: out } }\ndelivery: exactly_once".into(),
        Guarantee::CommittedFiles => {
            format!("arrow: {{ path: '{}/', file_rows: 700, file_seconds: 2 }} }}", out.display())
        }
    };
    let more = format!("sink: {{ {sink}\ndead_letter: {{ topic: dead }}\nwindow: {{ records: 64 }}\n");
    let pipeline = Pipeline::from_topics(&addr, "in", "chaos", &more);

    let documents = documents();
    let (early, late) = documents.split_at(DOCUMENTS / 2);
    produce(&addr, "in", early);
    let mut instances: Vec<Instance> = (0..3).map(|_| Instance(pipeline.spawn(&log))).collect();
    let feeder = thread::spawn({
        let (addr, late) = (addr.clone(), late.to_vec());
        move || {
            for part in late.chunks(500) {
                produce(&addr, "in", part);
                thread::sleep(Duration::from_millis(150));
            }
        }
    });
    for step in 0..8 {
        thread::sleep(Duration::from_millis(400 + random.below(1_500)));
        let which = random.below(instances.len() as u64) as usize;
        match random.below(5) {
            0 | 1 => {
                instances[which] = Instance(pipeline.spawn(&log));
            }
            2 => {
                // Longer than the session timeout: the group revokes its partitions, and it resumes without knowing.
                instances[which].signal("-STOP");
                thread::sleep(Duration::from_millis(7_500));
                instances[which].signal("-CONT");
            }
            3 if instances.len() < 4 => instances.push(Instance(pipeline.spawn(&log))),
            3 => {
                instances[which].signal("-TERM");
                drop(instances.remove(which).0.wait());
            }
            _ if step == 4 => {
                broker.kill();
                broker.restart();
            }
            _ => {}
        }
    }
    feeder.join().expect("all documents are produced");
    for mut instance in instances {
        instance.signal("-TERM");
        let deadline = Instant::now() + STOP_MAX;
        while instance.0.try_wait().expect("it is a child").is_none() {
            if Instant::now() > deadline {
                panic!("an instance does not stop; seed {seed}\n{}", tail(&log));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    let last = pipeline.command(&["--until-end"]).output().expect("embedmill starts");
    std::fs::OpenOptions::new()
        .append(true)
        .open(&log)
        .and_then(|mut log| log.write_all(&last.stderr))
        .expect("the log is there");
    assert!(last.status.success(), "{}", tail(&log));
    let rows: Vec<String> = match guarantee {
        Guarantee::CommittedFiles => ids_in_files(&out),
        _ => read(&addr, "out").into_iter().flat_map(|found| found.ids()).collect(),
    };
    check(guarantee, seed, &documents, outcome(&addr, rows), &log);
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn check(guarantee: Guarantee, seed: u64, documents: &[Sent], outcome: BTreeMap<String, Vec<String>>, log: &Path) {
    for partition in 0..PARTITIONS {
        let sent = documents.iter().filter(|sent| sent.partition == partition);
        let (dead, rows): (Vec<_>, Vec<_>) = sent.partition(|sent| sent.value.as_deref() == Some("{ no JSON"));
        let expected_rows: Vec<String> = rows.iter().map(|sent| sent.key.clone()).collect();
        let expected_dead: Vec<String> = dead.iter().map(|sent| format!("dead {}", sent.key)).collect();
        let of = |name: String| outcome.get(&name).cloned().unwrap_or_default();
        for (found, expected, once) in [
            (of(partition.to_string()), expected_rows, guarantee != Guarantee::AtLeastOnce),
            (of(format!("dead {partition}")), expected_dead, guarantee == Guarantee::ExactlyOnce),
        ] {
            let found = if once { found } else { first_seen(found) };
            if found != expected {
                let missing = expected.iter().filter(|id| !found.contains(id)).count();
                let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
                panic!(
                    "{guarantee:?}, seed {seed}, partition {partition}: {} found, {} expected, {missing} missing, \
                     different from {at:?}: {:?}\n{}",
                    found.len(),
                    expected.len(),
                    at.map(|at| &found[at..(at + 3).min(found.len())]),
                    tail(log)
                );
            }
        }
    }
}

/// Each id where it appears first, without the repetitions of a redelivery.
fn first_seen(ids: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

/// Runs `EMBEDMILL_CHAOS_ROUNDS` rounds of each guarantee from seed `EMBEDMILL_CHAOS_SEED` on, as `make chaos` does; one
/// round by default.
#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("EMBEDMILL_CHAOS_SEED").unwrap_or(1);
    for round_seed in seed..seed + number("EMBEDMILL_CHAOS_ROUNDS").unwrap_or(1) {
        for guarantee in [Guarantee::ExactlyOnce, Guarantee::CommittedFiles, Guarantee::AtLeastOnce] {
            round(guarantee, round_seed);
        }
    }
}

/// The broker is away for longer than any session or transaction lasts. The run waits and then continues.
#[test]
#[ignore = "takes two minutes; see make chaos"]
fn a_broker_is_away_for_a_minute() {
    for guarantee in ["exactly_once", "at_least_once"] {
        let mut broker = Broker::start_to_be_killed();
        let addr = broker.addr().to_string();
        create_topics(&addr, &[("in", 2), ("out", 2)], &[]);
        let pipeline = Pipeline::new(&addr, ["in", "out"], "away", &format!("delivery: {guarantee}\n"));
        let documents: Vec<Sent> =
            (0..20_000).map(|index| document(index % 2, &format!("{}-{index:05}", index % 2), "a text")).collect();
        produce(&addr, "in", &documents[..10_000]);
        let log = broker.folder().join("instances.log");
        let mut instance = Instance(pipeline.spawn(&log));
        thread::sleep(Duration::from_millis(1_500));
        broker.kill();
        thread::sleep(Duration::from_secs(60));
        broker.restart();
        produce(&addr, "in", &documents[10_000..]);
        thread::sleep(Duration::from_secs(20));
        assert_eq!(instance.0.try_wait().expect("it is a child"), None, "it has stopped\n{}", tail(&log));
        instance.signal("-TERM");
        assert!(instance.0.wait().expect("it is a child").success(), "{}", tail(&log));
        // The records that the run had not reached yet.
        pipeline.run(&[]);
        for partition in 0..2 {
            let sent = documents.iter().filter(|sent| sent.partition == partition);
            let expected: Vec<String> = sent.map(|sent| sent.key.clone()).collect();
            let found = ids(&addr, "out").remove(&partition).unwrap_or_default();
            let found = if guarantee == "exactly_once" { found } else { first_seen(found) };
            assert!(found == expected, "{guarantee}: {} of {} rows\n{}", found.len(), expected.len(), tail(&log));
        }
    }
}

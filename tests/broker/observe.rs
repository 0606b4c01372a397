//! The metrics and status of a run between topics: the metrics add up to what was produced, and the run is ready while its
//! brokers can be reached.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{LIMIT, Pipeline, Sent, create_topics, document, produce, read, stop};
use crate::prometheus::{Scrape, parse};
use crate::server::{Broker, shared};

/// A run in the background, and the address of its metrics.
pub struct Observed {
    pub child: Child,
    url: String,
}

impl Observed {
    pub fn start(pipeline: &Pipeline, arguments: &[&str], log: &Path) -> Observed {
        Observed::watched(pipeline.command(arguments), log)
    }

    /// Starts the command of a pipeline that listens on a port of the system's choice.
    pub fn watched(mut command: Command, log: &Path) -> Observed {
        let file = File::create(log).expect("a log");
        let child = command.stderr(file).stdout(Stdio::null()).spawn().expect("embedmill starts");
        let url = wait_for("the address in the log", || {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.into_iter().find_map(|line| Some(line["fields"]["url"].as_str()?.to_string()))
        });
        Observed { child, url }
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .into();
        let mut response = agent.get(format!("{}{path}", self.url)).call().expect("it answers");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    pub fn scrape(&self) -> Scrape {
        parse(&self.get("/metrics").1)
    }

    /// The metrics once this many records are settled.
    pub fn settled(&self, records: u64) -> Scrape {
        wait_for("the records to be settled", || {
            // The counters of a page are read one after the other, so a second page is read once they have settled.
            let settled = self.scrape().sum("embedmill_records_total", &[]) as u64;
            (settled == records).then(|| self.scrape())
        })
    }

    pub fn stop(mut self) {
        stop(&mut self.child);
    }
}

pub fn wait_for<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(there) = there() {
            return there;
        }
        assert!(started.elapsed() < LIMIT, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// 600 messages over 3 partitions: 9 that cannot be embedded, 12 deletes.
fn messages() -> Vec<Sent> {
    let message = |index: usize| {
        let mut sent = document(index as i32 % 3, &format!("{index:03}"), &"word ".repeat(index % 20));
        match index {
            index if index % 67 == 5 => sent.value = Some("{ this is no JSON".into()),
            index if index % 50 == 8 => sent.value = None,
            _ => {}
        }
        sent
    };
    (0..600).map(message).collect()
}

#[test]
fn metrics_add_up_to_what_went_in_and_came_out() {
    let addr = shared().addr();
    for delivery in ["at_least_once", "exactly_once"] {
        let [from, to, dead] = ["in", "out", "dead"].map(|topic| format!("o-{}-{topic}", &delivery[..2]));
        create_topics(addr, &[(&from, 3), (&to, 4), (&dead, 2)], &[]);
        let messages = messages();
        let deletes = messages.iter().filter(|sent| sent.value.is_none()).count() as u64;
        let poison =
            messages.iter().flat_map(|sent| &sent.value).filter(|value| value.contains("no JSON")).count() as u64;
        assert_eq!((deletes, poison), (12, 9));
        produce(addr, &from, &messages);
        let more = format!(
            "delivery: {delivery}\ndead_letter: {{ topic: {dead} }}\nobserve: {{ listen: '127.0.0.1:0' }}\n\
             window: {{ records: 100 }}\n"
        );
        let pipeline = Pipeline::new(addr, [&from, &to], &from, &more);
        let folder = tempfile::tempdir().expect("a folder");
        let run = Observed::start(&pipeline, &["--set", "sink.kafka.layout=row"], &folder.path().join("log"));
        let scrape = run.settled(600);
        let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels) as u64;

        assert_eq!(sum("embedmill_records_read_total", &[]), 600);
        let outcomes = [("published", 600 - 21), ("dead_lettered", 9), ("deleted", 12), ("abandoned", 0)];
        for (outcome, count) in outcomes {
            assert_eq!(sum("embedmill_records_total", &[("outcome", outcome)]), count, "{delivery}: {outcome}");
        }
        assert_eq!(sum("embedmill_dead_letters_total", &[("stage", "extract")]), 9);
        assert_eq!(sum("embedmill_rows_total", &[]), 579);
        // One message per row, delete and dead letter.
        assert_eq!(sum("embedmill_kafka_messages_total", &[("outcome", "acknowledged")]), 600);
        assert_eq!(sum("embedmill_kafka_messages_total", &[("outcome", "failed")]), 0);
        assert_eq!(read(addr, &to).len(), 579 + 12);
        assert_eq!(read(addr, &dead).len(), 9);

        let windows = sum("embedmill_windows_settled_total", &[]);
        assert!(windows >= 6);
        assert_eq!(sum("embedmill_latency_seconds_count", &[]), 2 * windows);
        let transactions = sum("embedmill_kafka_transactions_total", &[("outcome", "committed")]);
        assert_eq!(transactions, if delivery == "exactly_once" { windows } else { 0 });
        assert_eq!(sum("embedmill_kafka_transaction_seconds_count", &[]), transactions);
        assert_eq!(sum("embedmill_kafka_partitions_assigned", &[]), 3);
        assert!(sum("embedmill_kafka_rebalances_total", &[("event", "assigned")]) >= 1);
        assert_eq!(run.get("/ready"), (200, "ready\n".into()));

        let scrape = wait_for("the lag to be known, and zero", || {
            let scrape = run.scrape();
            let partitions = scrape.values_of("embedmill_kafka_lag_records", "partition");
            let lag = scrape.sum("embedmill_kafka_lag_records", &[("topic", &from)]);
            (partitions.len() == 3 && lag == 0.0).then_some(scrape)
        });
        let commits = scrape.sum("embedmill_kafka_commits_total", &[("outcome", "ok")]);
        assert_eq!(commits > 0.0, delivery == "at_least_once");
        let status: serde_json::Value = serde_json::from_str(&run.get("/status").1).expect("JSON");
        for partition in 0..3 {
            let place = &status["positions"][partition];
            assert_eq!(place["partition"], format!("{from}[{partition}]"));
            assert_eq!((&place["next_offset"], &place["end_offset"]), (&200.into(), &200.into()), "{status}");
        }
        run.stop();
    }
}

#[test]
fn a_run_is_not_ready_while_its_broker_is_gone() {
    let mut broker = Broker::start();
    let addr = broker.addr().to_string();
    create_topics(&addr, &[("n-in", 2), ("n-out", 2)], &[]);
    let documents = |from: usize| -> Vec<Sent> {
        (from..from + 50).map(|index| document(index as i32 % 2, &format!("{index:03}"), "a text")).collect()
    };
    produce(&addr, "n-in", &documents(0));
    let pipeline = Pipeline::new(&addr, ["n-in", "n-out"], "n", "observe: { listen: '127.0.0.1:0' }\n");
    let folder = tempfile::tempdir().expect("a folder");
    let run = Observed::start(&pipeline, &[], &folder.path().join("log"));
    run.settled(50);
    wait_for("the run to be ready", || (run.get("/ready").0 == 200).then_some(()));
    broker.kill();
    let why = wait_for("the run to be unready", || {
        let (code, why) = run.get("/ready");
        (code == 503).then_some(why)
    });
    assert!(why.starts_with("source: no broker"), "{why}");
    assert_eq!(run.get("/live").0, 200);
    let scrape = run.scrape();
    assert_eq!(scrape.sum("embedmill_ready", &[]), 0.0);
    assert!(scrape.sum("embedmill_log_events_total", &[]) > 0.0);
    let status: serde_json::Value = serde_json::from_str(&run.get("/status").1).expect("JSON");
    assert!(status["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{status}");
    broker.restart();
    wait_for("the run to be ready again", || (run.get("/ready").0 == 200).then_some(()));
    produce(&addr, "n-in", &documents(50));
    run.settled(100);
    run.stop();
}

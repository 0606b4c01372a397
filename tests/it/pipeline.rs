//! The pipeline in memory: order, counts, several workers, failures of a stage, and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use embedmill::internal::backoff::Backoff;
use embedmill::internal::batch::{BatchConfig, PaddingMode, TokenBatch};
use embedmill::internal::columnar::kept::{KeptSchema, TypeSample};
use embedmill::internal::delivery::{Delivery, DeliveryError, NoCommit};
use embedmill::internal::device::Device;
use embedmill::internal::encode::worker::{EncoderFactory, WorkerPool};
use embedmill::internal::encode::{EncodeError, Encoder, factory};
use embedmill::internal::failure::Failure;
use embedmill::internal::kafka::KafkaError;
use embedmill::internal::matrix::Matrix;
use embedmill::internal::model::ModelConfig;
use embedmill::internal::model::spec::ModelSpec;
use embedmill::internal::model::tokenizer::Tokenizer;
use embedmill::internal::output::{OutputSchema, Vectors};
use embedmill::internal::pipeline::Tuning;
use embedmill::internal::pipeline::{Pipeline, Progress, RunError, Stop, Summary};
use embedmill::internal::record::DeadLetter;
use embedmill::internal::sink::memory::MemorySink;
use embedmill::internal::sink::{Sink, SinkError, WindowRows, Written};
use embedmill::internal::source::memory::MemorySource;
use embedmill::internal::source::{RecordSender, Source, SourceError};
use embedmill::internal::text::extract::Extractor;
use embedmill::internal::text::field::{RecordConfig, RecordPlan};
use embedmill::internal::window::WindowConfig;
use serde_json::json;

/// A pipeline of these documents into memory, with the hash encoder unless another is given.
fn pipeline(documents: Vec<String>, window: WindowConfig, encoder: Option<EncoderFactory>) -> (Pipeline, MemorySink) {
    let model = ModelConfig { backend: embedmill::internal::model::Backend::Hash, hash_dim: 8, ..Default::default() };
    let spec = Arc::new(ModelSpec::hash_backend(&model));
    let record = RecordConfig { id: Some("id".into()), ..Default::default() };
    let plan = RecordPlan::new(&record).expect("a valid record section");
    let kept = KeptSchema::infer(&[], TypeSample::Empty).expect("nothing is kept");
    let output = OutputSchema::new(8, true, &kept, &[]);
    let devices = [Device::Cpu, Device::Cpu, Device::Cpu];
    let workers =
        WorkerPool::start(&devices, encoder.unwrap_or_else(|| factory(&spec, &devices))).expect("workers start");
    let sink = MemorySink::default();
    let tuning = Tuning {
        window_tokens: window.tokens,
        linger: Duration::from_millis(window.linger_ms),
        batch: BatchConfig { tokens: 40, rows: 16 },
        drain_max: Duration::from_millis(300),
    };
    let pipeline = Pipeline {
        source: Box::new(MemorySource::json(&documents, 7)),
        extractor: Arc::new(Extractor::new(plan, kept, Arc::new(Tokenizer::load(&spec).expect("words")), true)),
        window,
        live: false,
        window_tokens_max: usize::MAX,
        padding: PaddingMode::Packed,
        tuning: tuning.fixed(),
        workers,
        output: Arc::new(output),
        delivery: Delivery::new(Box::new(sink.clone()), None, Box::new(NoCommit)),
    };
    (pipeline, sink)
}

fn run(pipeline: Pipeline, stop: Stop) -> Result<Summary, RunError> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let run = pipeline.run(stop, Arc::new(Progress::default()));
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends") })
}

fn ids(sink: &MemorySink) -> Vec<String> {
    let vectors = sink.outputs().into_iter().map(|output| Vectors::new(output.into_batch()).expect("vectors"));
    let id = |vectors: &Vectors, row| vectors.row_as_json(row)["id"].as_str().unwrap_or_default().to_string();
    vectors.flat_map(|vectors| (0..vectors.rows()).map(|row| id(&vectors, row)).collect::<Vec<_>>()).collect()
}

fn documents(count: usize) -> Vec<String> {
    let text = |index: usize| "word ".repeat(1 + index * 7919 % 23);
    (0..count).map(|index| json!({ "id": index, "text": text(index) }).to_string()).collect()
}

#[test]
fn rows_come_out_in_the_order_of_the_source() {
    for window in [
        WindowConfig { tokens: 100, ..Default::default() },
        WindowConfig { records: 1, ..Default::default() },
        WindowConfig::default(),
    ] {
        let (pipeline, sink) = pipeline(documents(1_000), window, None);
        let summary = run(pipeline, Stop::default()).expect("it runs");
        assert_eq!(ids(&sink), (0..1_000).map(|index| index.to_string()).collect::<Vec<_>>());
        assert_eq!((summary.settled.records, summary.settled.rows, summary.settled.dead_lettered()), (1_000, 1_000, 0));
    }
}

#[test]
fn the_budget_bounds_what_is_in_flight_and_nothing_waits_forever() {
    // Barely the least that the plan allows: one window and one run of records.
    let window = WindowConfig { bytes: 400, in_flight_bytes: 400 + 7 * 160, ..Default::default() };
    let (pipeline, sink) = pipeline(documents(500), window, None);
    run(pipeline, Stop::default()).expect("it runs");
    assert_eq!(ids(&sink).len(), 500);
}

struct Failing;

impl Encoder for Failing {
    fn dim(&self) -> usize {
        8
    }

    fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError> {
        if batch.length(0) == 23 {
            return Err(EncodeError::Failed { rows: 1, tokens: 23, message: "the test's failure".into() });
        }
        Ok(Matrix::zeros(batch.rows(), 8))
    }
}

#[test]
fn a_failing_model_stops_the_run_with_its_reason() {
    let encoder: EncoderFactory = Arc::new(|_| Ok(Box::new(Failing) as Box<dyn Encoder>));
    let (pipeline, _) = pipeline(documents(500), WindowConfig { tokens: 50, ..Default::default() }, Some(encoder));
    match run(pipeline, Stop::default()) {
        Err(RunError::Encode(error)) => assert!(error.to_string().contains("the test's failure"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rejected_record_without_dead_letters_stops_the_run_and_says_where() {
    let mut documents = documents(100);
    documents[41] = "{\"id\": 41}".into();
    let (pipeline, sink) = pipeline(documents, WindowConfig { records: 10, ..Default::default() }, None);
    match run(pipeline, Stop::default()) {
        Err(RunError::Delivery(error @ DeliveryError::Rejected { .. })) => {
            let text = error.to_string();
            assert!(
                text.starts_with("memory-0@41: field `text`: missing; expected a string (the record has `id`)"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Windows before it were delivered, its own was not.
    assert_eq!(ids(&sink).len(), 40);
}

#[test]
fn a_drain_finishes_what_was_read_and_an_abort_gives_up() {
    let stop = Stop::default();
    stop.drain.cancel();
    let (drained, sink) = pipeline(documents(1_000), WindowConfig::default(), None);
    let summary = run(drained, stop).expect("a drain is no failure");
    assert!(summary.drained);
    assert_eq!(ids(&sink).len() as u64, summary.settled.rows);
    let stop = Stop::default();
    stop.abort.cancel();
    let (aborted, _) = pipeline(documents(1_000), WindowConfig::default(), None);
    assert!(matches!(run(aborted, stop), Err(RunError::Aborted)));
}

/// A sink that fails so many times, and takes rows then.
struct Moody {
    left: u32,
    tries: Arc<AtomicU32>,
    rows: MemorySink,
}

impl Sink for Moody {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        self.tries.fetch_add(1, Relaxed);
        if self.left > 0 {
            self.left -= 1;
            let (subject, message) = ("the test's sink".into(), "is away".into());
            return Err(KafkaError::Failed { subject, message, failure: Failure::Retry }.into());
        }
        self.rows.write(rows)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        Ok(Vec::new())
    }
}

/// Records without an end, counted as they are taken.
struct Endless(Arc<AtomicUsize>);

impl Source for Endless {
    fn run(self: Box<Self>, sender: &mut RecordSender) -> Result<(), SourceError> {
        let MemorySource { partition, bodies } = MemorySource::json(&documents(7), 7);
        while sender.send(&partition, bodies[0].clone(), 0).is_ok() {
            self.0.fetch_add(7, Relaxed);
        }
        Ok(())
    }
}

/// A pipeline from an endless source to a sink that fails so many times, with the counts of both.
fn moody(failures: u32, give_up_after_ms: u64) -> (Pipeline, Arc<AtomicUsize>, Arc<AtomicU32>) {
    let window = WindowConfig { bytes: 400, in_flight_bytes: 8_000, ..Default::default() };
    let (mut pipeline, rows) = pipeline(Vec::new(), window, None);
    let (read, tries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU32::new(0)));
    pipeline.source = Box::new(Endless(read.clone()));
    let ms = Duration::from_millis;
    let retries = Backoff { initial: ms(20), max: ms(100), give_up_after: ms(give_up_after_ms) };
    let sink = Moody { left: failures, tries: tries.clone(), rows };
    pipeline.delivery = Delivery::new(Box::new(sink), None, Box::new(NoCommit)).with_retries(retries);
    (pipeline, read, tries)
}

#[test]
fn a_sink_that_fails_is_tried_again_for_a_time_and_nothing_more_is_fetched() {
    let (pipeline, read, tries) = moody(u32::MAX, 600);
    let began = Instant::now();
    match run(pipeline, Stop::default()) {
        Err(RunError::Delivery(error)) => assert_eq!(error.to_string(), "the test's sink: is away"),
        other => panic!("{other:?}"),
    }
    assert!((500..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    // 20, 40, 80, and 100 ms from then on: far from a busy loop.
    assert!((4..=12).contains(&tries.load(Relaxed)), "{tries:?} tries");
    // The memory budget holds some dozens of such records.
    assert!(read.load(Relaxed) < 500, "{read:?} records were read meanwhile");
}

#[test]
fn a_sink_that_comes_back_loses_and_doubles_nothing() {
    let stop = Stop::default();
    let (mut pipeline, _, tries) = moody(3, 60_000);
    let documents = documents(300);
    pipeline.source = Box::new(MemorySource::json(&documents, 7));
    let summary = run(pipeline, stop).expect("the sink comes back");
    assert_eq!((summary.settled.records, summary.settled.rows), (300, 300));
    assert_eq!(u64::from(tries.load(Relaxed)), summary.windows + 3);
}

#[test]
fn a_drain_that_takes_too_long_is_given_up_and_an_abort_does_not_wait() {
    for abort in [false, true] {
        let stop = Stop::default();
        let (pipeline, _, tries) = moody(u32::MAX, 600_000);
        let stopped = stop.clone();
        let stopper = std::thread::spawn(move || {
            while tries.load(Relaxed) < 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if abort {
                stopped.abort.cancel()
            } else {
                stopped.drain.cancel()
            }
            Instant::now()
        });
        let error = run(pipeline, stop).expect_err("nothing can be published");
        let took = stopper.join().expect("it stops").elapsed();
        let expected = if abort { "no unfinished output remains" } else { "longer than drain_ms, 300 ms" };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(took < Duration::from_millis(2_000), "{took:?}");
        assert_eq!(took < Duration::from_millis(300), abort, "{took:?}");
    }
}

#[test]
fn a_run_is_tuned_while_it_goes_on() {
    let (mut pipeline, _, _) = moody(0, 1_000);
    let rows = MemorySink::default();
    let tuning = pipeline.tuning.borrow().clone();
    let (tune, tuned) = tokio::sync::watch::channel(tuning.clone());
    pipeline.tuning = tuned;
    pipeline.delivery = Delivery::new(Box::new(rows.clone()), None, Box::new(NoCommit));
    let stop = Stop::default();
    let stopped = stop.clone();
    let tuner = std::thread::spawn(move || {
        let most = |rows: &MemorySink| rows.outputs().iter().rev().take(5).map(|output| output.rows()).max();
        while rows.outputs().len() < 10 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let before = most(&rows);
        tune.send_replace(Tuning { window_tokens: 1, ..tuning });
        let began = Instant::now();
        while most(&rows) != Some(1) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        stopped.abort.cancel();
        (before, most(&rows))
    });
    assert!(matches!(run(pipeline, stop), Err(RunError::Aborted)));
    let (before, after) = tuner.join().expect("it ends");
    assert!(before > Some(1) && after == Some(1), "rows a window: {before:?} before, {after:?} after");
}

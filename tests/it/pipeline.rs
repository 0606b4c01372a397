//! The pipeline in memory: order, counts, several workers, failures of a stage, and stopping.

use std::sync::Arc;
use std::time::Duration;

use embedmill::batch::{BatchConfig, TokenBatch};
use embedmill::columnar::kept::{KeptSchema, Sample};
use embedmill::columnar::output::{OutputSchema, Vectors};
use embedmill::delivery::{Delivery, DeliveryError, Guarantee};
use embedmill::encode::device::Device;
use embedmill::encode::modules::ModelSpec;
use embedmill::encode::worker::{Builder, WorkerPool};
use embedmill::encode::{EncodeError, Encoder, Matrix, ModelConfig, builder};
use embedmill::pipeline::{Pipeline, Progress, RunError, Stop, Summary};
use embedmill::sink::memory::MemorySink;
use embedmill::source::memory::MemorySource;
use embedmill::text::extract::Extractor;
use embedmill::text::field::{RecordConfig, RecordPlan};
use embedmill::tokenize::Tokenizer;
use embedmill::window::WindowConfig;
use serde_json::json;

/// A pipeline of these documents into memory, with the hash encoder unless another is given.
fn pipeline(documents: Vec<String>, window: WindowConfig, encoder: Option<Builder>) -> (Pipeline, MemorySink) {
    let model = ModelConfig { backend: embedmill::encode::Backend::Hash, hash_dim: 8, ..Default::default() };
    let spec = Arc::new(ModelSpec::words(&model));
    let record = RecordConfig { id: Some("id".into()), ..Default::default() };
    let plan = RecordPlan::new(&record).expect("a valid record section");
    let kept = KeptSchema::fix(&[], Sample::Empty).expect("nothing is kept");
    let output = OutputSchema::new(8, true, &kept, &[]);
    let devices = [Device::Cpu, Device::Cpu, Device::Cpu];
    let workers =
        WorkerPool::start(&devices, encoder.unwrap_or_else(|| builder(&spec, &devices))).expect("workers start");
    let sink = MemorySink::default();
    let pipeline = Pipeline {
        source: Box::new(MemorySource::json(&documents, 7)),
        extractor: Arc::new(Extractor::new(plan, kept, Arc::new(Tokenizer::load(&spec).expect("words")), true)),
        window,
        live: false,
        batch: BatchConfig { tokens: 40, rows: 16 },
        workers,
        output: Arc::new(output),
        delivery: Delivery::new(Box::new(sink.clone()), None, Guarantee::Whole),
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
    let encoder: Builder = Arc::new(|_| Ok(Box::new(Failing) as Box<dyn Encoder>));
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
            assert!(text.starts_with("memory-0@41: no field `text`; the record has `id`"), "{text}");
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

//! A plan and records in, what comes of them out: the pipeline of a run between memory and memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::batch::PaddingMode;
use crate::columnar::Table;
use crate::columnar::kept::KeptSchema;
use crate::delivery::{Delivery, NoCommit};
use crate::device::Device;
use crate::encode::factory;
use crate::encode::worker::WorkerPool;
use crate::kafka::config::ValueFormat;
use crate::model::spec::ModelSpec;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Backend, ModelConfig};
use crate::output::OutputSchema;
use crate::output::quantize::{Quantizer, Ranges};
use crate::pipeline::{Pipeline, Progress, Stop};
use crate::plan::{Plan, SourcePlan};
use crate::record::DeadLetter;
use crate::record::{Body, Envelope, Partition, Payload, Record};
use crate::reload::tuning_of;
use crate::sink::DeadLetterSink;
use crate::sink::memory::{MemoryDeadLetters, MemorySink};
use crate::source::file::Format;
use crate::source::memory::MemorySource;
use crate::text::extract::{Extractor, infer_kept};

/// What came of a case's records.
#[derive(Debug, Default)]
pub struct Found {
    /// Each column's name and type.
    pub columns: Vec<(String, String)>,
    /// Each row's columns, but for the vector.
    pub rows: Vec<Value>,
    /// How many numbers a vector has.
    pub dims: usize,
    pub letters: Vec<DeadLetter>,
    pub deletes: Vec<String>,
    /// The error that stopped the run.
    pub stopped: Option<String>,
}

/// Why a case cannot be run. `key` is that of the case.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct CannotRun {
    pub key: String,
    pub message: String,
}

fn cannot<T>(key: impl Into<String>, message: impl ToString) -> Result<T, CannotRun> {
    Err(CannotRun { key: key.into(), message: message.to_string() })
}

/// Where a file's records come from, as ids and positions show it.
const FILE: &str = "records";

/// Runs `plan` on `records`.
///
/// # Errors
/// If the records are none that the plan's source could give, or the plan cannot be started. What fails of the run itself
/// is a result.
pub async fn run(plan: Plan, records: &[Value]) -> Result<Found, CannotRun> {
    let start = |message: String| CannotRun { key: String::new(), message };
    let (partition, bodies) = given(&plan.source, records)?;
    let spec = Arc::new(ModelSpec::hash_backend(&model(&plan.model)));
    if plan.model.max_seq_length.is_some() {
        plan.check_model(&spec).map_err(|error| start(error.to_string()))?;
    }
    let sample = match &plan.source {
        SourcePlan::Files(_) => bodies.first(),
        SourcePlan::Kafka(_) => None,
    };
    let kept = infer_kept(&plan.record, sample).or_else(|message| cannot("", format!("record.keep: {message}")))?;
    let output = plan.output(&spec, &kept, &[], quantizer(&plan, spec.dim)?);
    let (sink, letters) = (MemorySink::default(), MemoryDeadLetters::default());
    let to_letters = plan.dead_letter.as_ref().map(|_| Box::new(letters.clone()) as Box<dyn DeadLetterSink>);
    let mut found = Found { columns: output.names_and_types(), dims: output.width(), ..Found::default() };
    let pipeline = pipeline(plan, (partition, bodies), &spec, (kept, output), |output| {
        (output, Delivery::new(Box::new(sink.clone()), to_letters, Box::new(NoCommit)))
    })?;
    let ran = pipeline.run(Stop::default(), Arc::new(Progress::default())).await;
    found.stopped = ran.err().map(|error| error.to_string());
    found.rows = sink.outputs().iter().flat_map(|output| output.rows_as_json()).collect();
    found.deletes = sink.deletes();
    found.letters = letters.letters();
    Ok(found)
}

fn pipeline(
    plan: Plan,
    (partition, bodies): (Partition, Vec<Body>),
    spec: &Arc<ModelSpec>,
    (kept, output): (KeptSchema, OutputSchema),
    delivery: impl FnOnce(OutputSchema) -> (OutputSchema, Delivery),
) -> Result<Pipeline, CannotRun> {
    let devices = [Device::Cpu];
    let load = |error: crate::model::LoadError| CannotRun { key: String::new(), message: error.to_string() };
    let tokenizer = Arc::new(Tokenizer::load(spec).map_err(load)?);
    let deletes = plan.sink.takes_deletes();
    let tuning = tuning_of(&plan).fixed();
    let (window, window_tokens_max) = (plan.window(spec), plan.window_tokens_max(spec));
    let extractor = Extractor::new(plan.record, kept, tokenizer, plan.text_column);
    let (output, delivery) = delivery(output);
    Ok(Pipeline {
        source: Box::new(MemorySource { partition: Arc::new(partition), bodies }),
        extractor: Arc::new(if deletes { extractor.with_deletes() } else { extractor }),
        padding: PaddingMode::Packed,
        tuning,
        window,
        window_tokens_max,
        // By age, where windows are cut would depend on how fast this machine is.
        live: false,
        workers: WorkerPool::start(&devices, factory(spec, &devices)).map_err(load)?,
        output: Arc::new(output),
        delivery,
    })
}

/// The hash encoder, with what of the model's section it can do.
fn model(config: &ModelConfig) -> ModelConfig {
    ModelConfig {
        backend: Backend::Hash,
        hash_dim: config.truncate_dim.unwrap_or(config.hash_dim),
        max_seq_length: config.max_seq_length,
        prompt: config.prompt.clone(),
        value: config.value,
        ..ModelConfig::default()
    }
}

/// Ranges are of the real model's vectors; the hash encoder's values lie between these.
fn quantizer(plan: &Plan, dim: usize) -> Result<Quantizer, CannotRun> {
    let ranges = plan.ranges.as_ref().map(|_| Ranges::new(vec![-1.0; dim], vec![1.0; dim])).transpose();
    let quantizer = ranges.and_then(|ranges| Quantizer::new(plan.precision, ranges));
    quantizer.or_else(|message| cannot("", format!("output.ranges: {message}")))
}

/// The records as the source would give them.
fn given(source: &SourcePlan, records: &[Value]) -> Result<(Partition, Vec<Body>), CannotRun> {
    let key = |index: usize| format!("records.{index}");
    match source {
        SourcePlan::Kafka(kafka) => {
            let topic = kafka.topics.first().map_or("topic", |topic| topic.trim_start_matches('^'));
            let partition = Partition::Topic { topic: topic.into(), partition: 0, epoch: 0 };
            let message = |(index, record)| {
                let (payload, envelope) = message(kafka.format, record).or_else(|what| cannot(key(index), what))?;
                Ok(Record { offset: index as u64, payload, envelope: Some(Box::new(envelope)) })
            };
            let messages: Vec<Record> = records.iter().enumerate().map(message).collect::<Result<_, _>>()?;
            let bodies = match kafka.format {
                ValueFormat::Json | ValueFormat::Text => vec![Body::Each(messages)],
                ValueFormat::Arrow => messages.into_iter().map(|message| Body::Batch(Box::new(message))).collect(),
            };
            Ok((partition, bodies))
        }
        SourcePlan::Files(files) => {
            let format = files.likely_format();
            let partition = Partition::File { ordinal: 0, path: FILE.into() };
            if let Format::Parquet | Format::Arrow = format {
                if let Some(index) = records.iter().position(|record| !record.is_object()) {
                    return cannot(key(index), format!("expected a map of columns for {}", format.as_str()));
                }
                let table = Table::from_json(records).or_else(|message| cannot("records", message))?;
                return Ok((partition, vec![Body::Table { first_offset: 0, table }]));
            }
            let header = Arc::new(header(records));
            let record = |(index, record)| {
                let payload = payload(format, &header, record).or_else(|what| cannot(key(index), what))?;
                Ok(Record::new(index as u64, payload))
            };
            let records = records.iter().enumerate().map(record).collect::<Result<_, _>>()?;
            Ok((partition, vec![Body::Each(records)]))
        }
    }
}

/// All columns that a record names, sorted.
fn header(records: &[Value]) -> csv::StringRecord {
    let names: BTreeSet<&String> = records.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    names.into_iter().map(String::as_str).collect()
}

/// A record of a file.
fn payload(format: Format, header: &Arc<csv::StringRecord>, record: &Value) -> Result<Payload, String> {
    match (format, record) {
        (Format::Csv | Format::Tsv, Value::Object(fields)) => {
            let field = |name: &str| match fields.get(name) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let row = header.iter().map(|name| field(name).into_bytes()).collect::<Vec<_>>();
            Ok(Payload::Row { header: header.clone(), row: csv::ByteRecord::from(row) })
        }
        (Format::Csv | Format::Tsv, _) => Err(format!("expected a map of columns for {}", format.as_str())),
        (Format::Text | Format::Document, Value::String(text)) => Ok(Payload::Text(bytes(text))),
        (Format::Text | Format::Document, _) => Err(format!("expected a string for {}", format.as_str())),
        (_, Value::String(raw)) => Ok(Payload::Json(bytes(raw))),
        (_, Value::Object(_)) => Ok(Payload::Json(bytes(&record.to_string()))),
        (_, other) => Err(format!("expected a map, or a string that is the record as it comes; found {other}")),
    }
}

/// A message's value and what is around it.
fn message(format: ValueFormat, record: &Value) -> Result<(Payload, Envelope), String> {
    let mut envelope = Envelope::default();
    let fields = match record {
        Value::Object(fields) if fields.keys().any(|name| name.starts_with('$')) => fields,
        plain => return Ok((value(format, plain)?, envelope)),
    };
    for (name, given) in fields {
        match (name.as_str(), given) {
            ("$value", _) | ("$key", Value::Null) => {}
            ("$key", Value::String(key)) => envelope.key = Some(bytes(key)),
            ("$timestamp", Value::Number(ms)) if ms.is_i64() => envelope.timestamp_ms = ms.as_i64(),
            ("$headers", Value::Object(headers)) => {
                for (name, header) in headers {
                    let header = match header {
                        Value::Null => None,
                        Value::String(text) => Some(bytes(text)),
                        other => return Err(format!("$headers.{name}: expected a string or null, found {other}")),
                    };
                    envelope.headers.push((name.clone(), header));
                }
            }
            ("$key" | "$timestamp" | "$headers", other) => {
                return Err(format!(
                    "{name}: found {other}; expected a string as $key, milliseconds since 1970 as $timestamp, a map of \
                     strings as $headers"
                ));
            }
            _ => {
                return Err(format!(
                    "`{name}` is no part of a message; expected $value, $key, $headers, $timestamp, with the document \
                     under $value"
                ));
            }
        }
    }
    let given = fields.get("$value").ok_or("`$value` is missing; null there is a delete")?;
    Ok((value(format, given)?, envelope))
}

fn value(format: ValueFormat, given: &Value) -> Result<Payload, String> {
    match (format, given) {
        (_, Value::Null) => Ok(Payload::Delete),
        (ValueFormat::Json, Value::String(raw)) => Ok(Payload::Json(bytes(raw))),
        (ValueFormat::Json, document) => Ok(Payload::Json(bytes(&document.to_string()))),
        (ValueFormat::Text, Value::String(text)) => Ok(Payload::Text(bytes(text))),
        (ValueFormat::Text, other) => Err(format!("expected a string with source.kafka.format: text, found {other}")),
        (ValueFormat::Arrow, Value::String(raw)) => Ok(Payload::Arrow(bytes(raw))),
        (ValueFormat::Arrow, Value::Array(rows)) if rows.iter().all(Value::is_object) => {
            Ok(Payload::Arrow(Bytes::from(Table::from_json(rows)?.to_stream()?)))
        }
        (ValueFormat::Arrow, other) => {
            Err(format!("expected a list of rows, each a map, with source.kafka.format: arrow, found {other}"))
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

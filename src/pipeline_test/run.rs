//! Runs the pipeline of a plan on given records, from memory to memory.
//!
//! In: a plan and records. Out: a [`CaseResult`], which also has the error of a run that failed. Fails with the key of
//! the case if the source of the plan could not give such records, or the plan cannot be started.

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

/// The result of a case.
#[derive(Debug, Default)]
pub(crate) struct CaseResult {
    /// Each column's name and type.
    pub columns: Vec<(String, String)>,
    /// Each row's columns except the vector, in source order.
    pub rows: Vec<Value>,
    /// How many numbers a vector is written as.
    pub dims: usize,
    /// The dead letters, in source order.
    pub dead_letters: Vec<DeadLetter>,
    /// The keys of deletes, in source order.
    pub deletes: Vec<String>,
    /// The error that stopped the run, if any.
    pub stopped: Option<String>,
}

/// Why a case cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub(crate) struct CaseError {
    /// The key within the case, such as `records.0`; empty if the plan is at fault.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

fn fail<T>(key: impl Into<String>, message: impl ToString) -> Result<T, CaseError> {
    Err(CaseError { key: key.into(), message: message.to_string() })
}

/// The path of the records, as ids and positions of records of files show it.
const FILE: &str = "records";

/// Runs `plan` on `records`.
///
/// # Errors
/// If the plan's source could not give such records, or the plan cannot be started. An error of the run itself is part of the
/// result.
pub(crate) async fn run(plan: Plan, records: &[Value]) -> Result<CaseResult, CaseError> {
    let source = memory_source(&plan.source, records)?;
    let spec = Arc::new(ModelSpec::hash_backend(&hash_model(&plan.model)));
    if plan.model.max_seq_length.is_some() {
        plan.check_model(&spec).or_else(|error| fail("", error))?;
    }
    let sample = match &plan.source {
        SourcePlan::Files(_) => source.bodies.first(),
        SourcePlan::Kafka(_) => None,
    };
    let kept = infer_kept(&plan.record, sample).or_else(|message| fail("", format!("record.keep: {message}")))?;
    let output = plan.output(&spec, &kept, &[], quantizer(&plan, spec.dim)?);
    let (sink, dead_letters) = (MemorySink::default(), MemoryDeadLetters::default());
    let dead_letter_sink = plan.dead_letter.as_ref().map(|_| Box::new(dead_letters.clone()) as Box<dyn DeadLetterSink>);
    let delivery = Delivery::new(Box::new(sink.clone()), dead_letter_sink, Box::new(NoCommit));
    let mut result = CaseResult { columns: output.names_and_types(), dims: output.width(), ..CaseResult::default() };
    let pipeline = pipeline(plan, source, &spec, kept, output, delivery)?;
    let ran = pipeline.run(Stop::default(), Arc::new(Progress::default())).await;
    result.stopped = ran.err().map(|error| error.to_string());
    result.rows = sink.outputs().iter().flat_map(|output| output.rows_as_json()).collect();
    result.deletes = sink.deletes();
    result.dead_letters = dead_letters.dead_letters();
    Ok(result)
}

fn pipeline(
    plan: Plan,
    source: MemorySource,
    spec: &Arc<ModelSpec>,
    kept: KeptSchema,
    output: OutputSchema,
    delivery: Delivery,
) -> Result<Pipeline, CaseError> {
    let devices = [Device::Cpu];
    let tokenizer = Arc::new(Tokenizer::load(spec).or_else(|error| fail("", error))?);
    let deletes = plan.sink.takes_deletes();
    let tuning = tuning_of(&plan).fixed();
    let (window, window_tokens_max) = (plan.window(spec), plan.window_tokens_max(spec));
    let extractor = Extractor::new(plan.record, kept, tokenizer, plan.text_column);
    Ok(Pipeline {
        source: Box::new(source),
        extractor: Arc::new(if deletes { extractor.with_deletes() } else { extractor }),
        padding: PaddingMode::Packed,
        tuning,
        window,
        window_tokens_max,
        // If windows closed by age, the result would depend on the speed of this machine.
        live: false,
        workers: WorkerPool::start(&devices, factory(spec, &devices)).or_else(|error| fail("", error))?,
        output: Arc::new(output),
        delivery,
    })
}

/// The hash encoder, with those settings of `model` that it supports.
fn hash_model(config: &ModelConfig) -> ModelConfig {
    ModelConfig {
        backend: Backend::Hash,
        hash_dim: config.truncate_dim.unwrap_or(config.hash_dim),
        max_seq_length: config.max_seq_length,
        prompt: config.prompt.clone(),
        value: config.value,
        ..ModelConfig::default()
    }
}

/// A quantizer with the range of the hash encoder's values, in place of ranges for the real model's.
fn quantizer(plan: &Plan, dim: usize) -> Result<Quantizer, CaseError> {
    let ranges = plan.ranges.as_ref().map(|_| Ranges::new(vec![-1.0; dim], vec![1.0; dim])).transpose();
    let quantizer = ranges.and_then(|ranges| Quantizer::new(plan.precision, ranges));
    quantizer.or_else(|message| fail("", format!("output.ranges: {message}")))
}

/// A source of the records as the plan's source would read them.
fn memory_source(source: &SourcePlan, records: &[Value]) -> Result<MemorySource, CaseError> {
    let key = |index: usize| format!("records.{index}");
    let (partition, bodies) = match source {
        SourcePlan::Kafka(kafka) => {
            let topic = kafka.topics.first().map_or("topic", |topic| topic.trim_start_matches('^'));
            let partition = Partition::Topic { topic: topic.into(), partition: 0, epoch: 0 };
            let message = |(index, record)| {
                let (payload, envelope) = message(kafka.format, record).or_else(|message| fail(key(index), message))?;
                Ok(Record { offset: index as u64, payload, envelope: Some(Box::new(envelope)) })
            };
            let messages: Vec<Record> = records.iter().enumerate().map(message).collect::<Result<_, _>>()?;
            let bodies = match kafka.format {
                ValueFormat::Json | ValueFormat::Text => vec![Body::Each(messages)],
                ValueFormat::Arrow => messages.into_iter().map(|message| Body::Batch(Box::new(message))).collect(),
            };
            (partition, bodies)
        }
        SourcePlan::Files(files) => {
            let format = files.likely_format();
            let partition = Partition::File { ordinal: 0, path: FILE.into() };
            if let Format::Parquet | Format::Arrow = format {
                if let Some(index) = records.iter().position(|record| !record.is_object()) {
                    let found = &records[index];
                    let message = format!("found {found}; expected a map of columns for {}", format.as_str());
                    return fail(key(index), message);
                }
                let table = Table::from_json(records).or_else(|message| fail("records", message))?;
                return Ok(MemorySource {
                    partition: Arc::new(partition),
                    bodies: vec![Body::Table { first_offset: 0, table }],
                });
            }
            let header = Arc::new(header(records));
            let record = |(index, record)| {
                let payload = payload(format, &header, record).or_else(|message| fail(key(index), message))?;
                Ok(Record::new(index as u64, payload))
            };
            let records = records.iter().enumerate().map(record).collect::<Result<_, _>>()?;
            (partition, vec![Body::Each(records)])
        }
    };
    Ok(MemorySource { partition: Arc::new(partition), bodies })
}

/// The columns of all records, sorted.
fn header(records: &[Value]) -> csv::StringRecord {
    let names: BTreeSet<&String> = records.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    names.into_iter().map(String::as_str).collect()
}

/// The payload of a record of a file.
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
        (Format::Csv | Format::Tsv, other) => {
            Err(format!("found {other}; expected a map of columns for {}", format.as_str()))
        }
        (Format::Text | Format::Document, Value::String(text)) => Ok(Payload::Text(bytes(text))),
        (Format::Text | Format::Document, other) => {
            Err(format!("found {other}; expected a string for {}", format.as_str()))
        }
        (_, Value::String(raw)) => Ok(Payload::Json(bytes(raw))),
        (_, Value::Object(_)) => Ok(Payload::Json(bytes(&record.to_string()))),
        (_, other) => Err(format!("found {other}; expected a map, or a string that is the record as it is read")),
    }
}

/// A message's value and envelope.
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
                        other => return Err(format!("$headers.{name}: found {other}; expected a string or null")),
                    };
                    envelope.headers.push((name.clone(), header));
                }
            }
            ("$key" | "$timestamp" | "$headers", other) => {
                let expected = match name.as_str() {
                    "$key" => "a string",
                    "$timestamp" => "milliseconds since 1970",
                    _ => "a map of strings",
                };
                return Err(format!("{name}: found {other}; expected {expected}"));
            }
            _ => {
                return Err(format!(
                    "{name}: unknown part of a message; expected $value, $key, $headers or $timestamp (the document is under \
                     $value)"
                ));
            }
        }
    }
    let given = fields.get("$value").ok_or("$value: missing; expected the value, or null for a delete")?;
    Ok((value(format, given)?, envelope))
}

fn value(format: ValueFormat, given: &Value) -> Result<Payload, String> {
    match (format, given) {
        (_, Value::Null) => Ok(Payload::Delete),
        (ValueFormat::Json, Value::String(raw)) => Ok(Payload::Json(bytes(raw))),
        (ValueFormat::Json, document) => Ok(Payload::Json(bytes(&document.to_string()))),
        (ValueFormat::Text, Value::String(text)) => Ok(Payload::Text(bytes(text))),
        (ValueFormat::Text, other) => Err(format!("found {other}; expected a string (source.kafka.format: text)")),
        (ValueFormat::Arrow, Value::String(raw)) => Ok(Payload::Arrow(bytes(raw))),
        (ValueFormat::Arrow, Value::Array(rows)) if rows.iter().all(Value::is_object) => {
            Ok(Payload::Arrow(Bytes::from(Table::from_json(rows)?.to_stream()?)))
        }
        (ValueFormat::Arrow, other) => {
            Err(format!("found {other}; expected a list of rows, each a map (source.kafka.format: arrow)"))
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

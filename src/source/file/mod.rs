//! Records from files, folders, globs and standard input.
//!
//! In: [`FilesConfig`]. Out, through the outlet: the records of one input after the other, in the order of the
//! arguments, in runs of a few hundred. Kept: one input open at a time, a block of its bytes, nothing that grows with its
//! size. Fails before any data moves when an input is missing, unreadable or of an unknown compression. Later, whatever
//! cannot be cut into a record (a stream that breaks, a line over the limit) is handed on as
//! [`Payload::Unreadable`] and the other inputs go on: whether that ends the run is decided downstream.
//!
//! ```text
//! inputs: paths, globs ─► Input ─► stream: decompressed bytes ─┬─► cut: lines, CSV rows, JSON values ─► Body::Each
//!                                                              ├─► document: the whole file         ─► Body::Each
//!                                                              └─► arrow_batches, parquet_batches   ─► Body::Table
//! ```

pub(crate) mod arrow_batches;
mod arrow_messages;
mod cut;
mod delimited;
mod document;
mod inputs;
mod json;
mod lines;
mod parquet_batches;
mod resume;
mod shard;
mod sniff;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::inputs::{Input, Kind};
pub use self::resume::{Marks, Resume};
pub use self::shard::Shard;
use self::stream::Compression;
use super::{Outlet, Source, SourceError};
use crate::record::{Body, Partition, Payload, Record};

/// Most records handed on at once. Some hundreds spread over the cores evenly and let windows be cut finely, and the
/// cost of handing on is still far below that of tokenizing them.
const RUN_RECORDS_MAX: usize = 256;
/// Most bytes handed on at once, but for a single record that is larger: long records are spread over the cores too.
const RUN_BYTES_MAX: usize = 256 << 10;
/// How many records column types are inferred from: enough to see a rare float among integers, read in milliseconds.
const SAMPLE_RECORDS: usize = 1_000;
/// Most bytes that column types are inferred from, so that long records do not pile up before the run starts.
const SAMPLE_BYTES: usize = 1 << 20;
/// How much of something unreadable is kept: enough to recognise it, little enough to keep many.
const RAW_BYTES_MAX: usize = 4 << 10;

/// `source.files:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Files, folders, globs such as `corpus/**/*.jsonl.zst`, and `-` for standard input. They are read in this order;
    /// what a folder or a glob holds is sorted by path, and a file named twice is read once.
    pub paths: Vec<String>,
    /// How records are cut out of the input; compression (gzip, zstd, bzip2) is always recognised by content.
    pub format: Format,
    /// What stands between the fields of a CSV file; left out, a comma, and a tab in TSV files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Most bytes of one line, row, JSON value or document. What is longer is not read into memory: it is rejected, as
    /// invalid records are.
    pub record_bytes_max: usize,
    /// With `delivery: exactly_once` into a Kafka topic: the name under which the sink's cluster keeps how far this has
    /// come, as a consumer group's. A run that is started again goes on there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Left out, this run reads all of them; else it is one of several that share them, each input in exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        FilesConfig {
            paths: Vec::new(),
            format: Format::Auto,
            delimiter: None,
            record_bytes_max: 16 << 20,
            checkpoint: None,
            shard: None,
        }
    }
}

impl FilesConfig {
    /// What records are where nothing is read: the format, or what the first path's extension says, or JSON lines.
    pub fn likely_format(&self) -> Format {
        let named = self.paths.first().map(|path| sniff::by_name(std::path::Path::new(path)));
        match (self.format, named) {
            (Format::Auto, Some(sniff::Named::Format(named))) => named,
            (Format::Auto, Some(sniff::Named::SomeJson)) => Format::Json,
            (Format::Auto, _) => Format::Jsonl,
            (given, _) => given,
        }
    }

    /// Checks what can be checked without looking at any file.
    ///
    /// # Errors
    /// The key under `source.files`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.paths.is_empty() {
            return Err(("paths", "expected at least one file, folder, glob or `-`, found an empty list".into()));
        }
        if self.paths.iter().any(String::is_empty) {
            return Err(("paths", "an empty path; name a file, or `.` for the current folder".into()));
        }
        if self.record_bytes_max == 0 {
            return Err(("record_bytes_max", "expected at least 1, found 0".into()));
        }
        if self.checkpoint.as_deref() == Some("") {
            return Err(("checkpoint", "expected a name, found nothing".into()));
        }
        if self.checkpoint.is_some() && self.paths.iter().any(|path| path == "-") {
            return Err(("checkpoint", "standard input cannot be read again; expected files".into()));
        }
        if let Some(shard) = self.shard {
            shard.check()?;
            if self.paths.iter().any(|path| path == "-") {
                return Err(("shard", "standard input cannot be read by several runs; expected files".into()));
            }
        }
        match self.delimiter {
            Some(delimiter) if !delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r' | '\0') => {
                let message = "expected one ASCII character other than a quote or a line end";
                Err(("delimiter", format!("{message}, found {delimiter:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// How records are cut out of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the file's extension, and by its content where that says nothing.
    #[default]
    Auto,
    /// A JSON object a line.
    Jsonl,
    /// A JSON array of objects, or objects one after the other, over as many lines as they like.
    Json,
    /// A line of plain text a record; blank lines are none.
    Text,
    /// A whole file of plain text a record.
    Document,
    /// Comma-separated rows under a header that names the fields.
    Csv,
    /// Tab-separated rows under a header that names the fields.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, file or stream (also called Feather version 2).
    Arrow,
}

impl Format {
    /// As it is written in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Jsonl => "jsonl",
            Format::Json => "json",
            Format::Text => "text",
            Format::Document => "document",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }
}

/// What cuts one input into records.
trait Reader: Send {
    /// The next run of records, `None` at the end. What breaks is the last record, an unreadable one.
    ///
    /// # Errors
    /// Only what is wrong with this machine rather than with the input.
    fn next(&mut self) -> Result<Option<Body>, SourceError>;

    /// Bytes of the input that are behind, as they lie on disk.
    fn input_bytes_read(&self) -> u64;
}

/// Opens one input. What is wrong with it is its one record, an unreadable one.
fn reader(config: &FilesConfig, columns: &[String], input: &Input) -> Result<Box<dyn Reader>, SourceError> {
    let mut stream = match input.stream() {
        Ok(stream) => stream,
        Err(error) => return Ok(Box::new(Broken::at(0, &[], error.to_string()))),
    };
    let limit = config.record_bytes_max;
    let delimiter = |usual: u8| config.delimiter.map_or(usual, |delimiter| delimiter as u8);
    Ok(match input.format(config, &mut stream) {
        Format::Auto | Format::Text => Box::new(lines::Lines::text(stream, limit)),
        Format::Jsonl => Box::new(lines::Lines::json(stream, limit)),
        Format::Json => Box::new(json::Values::new(stream, limit)),
        Format::Document => Box::new(document::Document::new(stream, limit)),
        Format::Csv => Box::new(delimited::Rows::new(stream, delimiter(b','), limit)),
        Format::Tsv => Box::new(delimited::Rows::new(stream, delimiter(b'\t'), limit)),
        Format::Arrow => Box::new(arrow_batches::Batches::new(stream)),
        Format::Parquet => return parquet_batches::open(input, stream, columns),
    })
}

/// An input that breaks before its first record, or after its last.
struct Broken(Option<Body>);

impl Broken {
    fn at(offset: u64, raw: &[u8], cause: String) -> Self {
        Broken(Some(Body::Each(vec![unreadable(offset, raw, cause)])))
    }
}

impl Reader for Broken {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        Ok(self.0.take())
    }

    fn input_bytes_read(&self) -> u64 {
        0
    }
}

/// What could not be cut into a record. The first bytes are copied, so that they do not hold a whole block in memory.
fn unreadable(offset: u64, raw: &[u8], cause: String) -> Record {
    let raw = Bytes::copy_from_slice(&raw[..raw.len().min(RAW_BYTES_MAX)]);
    Record::new(offset, Payload::Unreadable { raw, cause })
}

/// Runs a decoder of the arrow or parquet crate. About one in a thousand corrupt files makes them slice out of bounds,
/// which is a panic rather than an error; here it is an error like any other, and the decoder is not used again.
fn guarded<T, E: fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(panicked) => Err(match panicked.downcast_ref::<String>() {
            Some(message) => format!("the data contradicts itself: {message}"),
            None => "the data contradicts itself".into(),
        }),
    }
}

/// All inputs, found and looked at, ready to be read.
pub struct FileSource {
    config: FilesConfig,
    columns: Vec<String>,
    inputs: Vec<Input>,
    bytes_total: Option<u64>,
    reading: Option<Reading>,
    next_input: usize,
    /// Bytes of the inputs that are done.
    bytes_done: u64,
    /// Read by [`FileSource::first`], not yet sent.
    ahead: VecDeque<Run>,
    sample: Option<Body>,
    /// What an earlier run has settled is left out.
    resume: Option<Resume>,
}

/// The input being read.
struct Reading {
    partition: Arc<Partition>,
    reader: Box<dyn Reader>,
    /// As they lie on disk; `None` for a pipe.
    bytes: Option<u64>,
    records: u64,
}

/// Consecutive records of one input.
struct Run {
    partition: Arc<Partition>,
    body: Body,
    input_bytes_read: u64,
}

impl FileSource {
    /// Finds all inputs, sees that each can be opened, and recognises formats and compressions. Standard input and pipes
    /// are not touched. `columns` are the top-level fields that will be asked for, so that others need not be read;
    /// empty for all.
    ///
    /// # Errors
    /// The first input that is missing, cannot be opened, or is of a compression or an archive that is not supported.
    pub fn open(config: &FilesConfig, columns: &[String]) -> Result<Self, SourceError> {
        let inputs = inputs::expand(config)?;
        if let (Some(_), Some(pipe)) = (config.shard, inputs.iter().find(|input| input.kind == Kind::Pipe)) {
            let message =
                format!("{}: a pipe cannot be read by several runs; source.files.shard wants files", pipe.shown);
            return Err(SourceError::Inputs { message });
        }
        Ok(FileSource::over(config.clone(), columns.to_vec(), inputs))
    }

    fn over(config: FilesConfig, columns: Vec<String>, inputs: Vec<Input>) -> Self {
        let mut source = FileSource {
            config,
            columns,
            bytes_total: None,
            inputs,
            reading: None,
            next_input: 0,
            bytes_done: 0,
            ahead: VecDeque::new(),
            sample: None,
            resume: None,
        };
        let sizes = source.own().map(|input| match input.kind {
            Kind::File { bytes, .. } => Some(bytes),
            Kind::Pipe | Kind::Stdin => None,
        });
        source.bytes_total = sizes.sum();
        source
    }

    fn takes(&self, ordinal: usize) -> bool {
        self.config.shard.is_none_or(|shard| shard.takes(ordinal))
    }

    /// The inputs of this run's shard; all of them where there is none.
    fn own(&self) -> impl Iterator<Item = &Input> {
        self.inputs.iter().enumerate().filter(|(ordinal, _)| self.takes(*ordinal)).map(|(_, input)| input)
    }

    /// Bytes of all inputs as they lie on disk; `None` where standard input or a pipe is among them.
    pub fn input_bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// The first records of the first input that has any, for inferring column types. They stay to be sent. Call it
    /// only where types are to be inferred: on a pipe it waits until there are enough of them, or for the first that come,
    /// where the source is `live`.
    ///
    /// # Errors
    /// As [`Source::run`].
    pub fn first(&mut self, live: bool) -> Result<Option<&Body>, SourceError> {
        let records_max = if live { 1 } else { SAMPLE_RECORDS };
        if self.sample.is_none() {
            self.sample = match self.config.shard {
                None => self.read_sample(records_max)?,
                // Of all inputs, so that every shard infers the same types.
                Some(_) => {
                    let config = FilesConfig { shard: None, ..self.config.clone() };
                    FileSource::over(config, self.columns.clone(), self.inputs.clone()).read_sample(records_max)?
                }
            };
        }
        Ok(self.sample.as_ref())
    }

    fn read_sample(&mut self, records_max: usize) -> Result<Option<Body>, SourceError> {
        let mut sample: Option<(Arc<Partition>, Body)> = None;
        let (mut records, mut bytes) = (0, 0);
        while records < records_max && bytes < SAMPLE_BYTES {
            let Some(run) = self.next_run()? else { break };
            records += run.body.len();
            bytes += (0..run.body.len()).map(|index| run.body.bytes(index)).sum::<usize>();
            let body = run.body.clone();
            let partition = run.partition.clone();
            self.ahead.push_back(run);
            match (&mut sample, body) {
                // A broken input in front says nothing about types.
                (None, Body::Each(each)) if each.iter().all(is_unreadable) => {}
                (None, body) => sample = Some((partition, body)),
                (Some((of, Body::Each(all))), Body::Each(more)) if *of == partition => all.extend(more),
                (Some(_), _) => break,
            }
            if matches!(sample, Some((_, Body::Table { .. }))) {
                break;
            }
        }
        Ok(sample.map(|(_, body)| body))
    }

    /// The next records, whichever input they are of.
    fn next_run(&mut self) -> Result<Option<Run>, SourceError> {
        loop {
            let Some(reading) = &mut self.reading else {
                let Some(input) = self.inputs.get(self.next_input) else { return Ok(None) };
                if !self.takes(self.next_input) {
                    self.next_input += 1;
                    continue;
                }
                if self.resume.is_some_and(|resume| self.next_input < resume.ordinal as usize) {
                    if let Kind::File { bytes, .. } = input.kind {
                        self.bytes_done += bytes;
                    }
                    self.next_input += 1;
                    continue;
                }
                self.reading = Some(open_input(&self.config, &self.columns, input, self.next_input)?);
                self.next_input += 1;
                continue;
            };
            if let Some(body) = reading.reader.next()? {
                if body.is_empty() {
                    continue;
                }
                reading.records += body.len() as u64;
                let read = reading.reader.input_bytes_read().min(reading.bytes.unwrap_or(u64::MAX));
                let input_bytes_read = self.bytes_done + read;
                return Ok(Some(Run { partition: reading.partition.clone(), body, input_bytes_read }));
            }
            if reading.records == 0 {
                tracing::warn!(input = %reading.partition.name(), "the input is empty: it has no records");
            }
            self.bytes_done += reading.bytes.unwrap_or_else(|| reading.reader.input_bytes_read());
            self.reading = None;
        }
    }

    /// The files of all shards.
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        self.inputs.iter().filter(|input| matches!(input.kind, Kind::File { .. })).map(|input| input.path.as_path())
    }

    /// `None` where standard input or a pipe is among the inputs.
    pub fn marks(&self) -> Option<Marks> {
        Marks::new(&self.inputs)
    }

    /// By which shards of the same inputs know each other: the same inputs, divided by the same number. `None` where
    /// there are no shards.
    pub fn shared(&self) -> Option<String> {
        let shard = self.config.shard?;
        Some(format!("{} in {}", self.marks()?.all(), shard.count))
    }

    /// Leaves out what an earlier run has settled.
    pub fn resume(&mut self, resume: Resume) {
        self.resume = Some(resume);
    }

    /// What of the run is to be sent.
    fn unsettled(&self, mut run: Run) -> Option<Run> {
        let Some(Resume { ordinal, next }) = self.resume else { return Some(run) };
        match run.partition.ordinal() {
            before if before < ordinal => None,
            here if here == ordinal => {
                let settled = (0..run.body.len()).take_while(|&index| run.body.offset(index) < next).count();
                run.body = run.body.split_off(settled);
                (!run.body.is_empty()).then_some(run)
            }
            _ => Some(run),
        }
    }

    /// One line for `explain`: how many inputs, how large, of which formats and compressions.
    pub fn describe(&self) -> String {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for input in self.own() {
            let kind = match input.kind {
                Kind::File { format, compression: Compression::None, .. } => format.as_str().to_string(),
                Kind::File { format, compression, .. } => format!("{} ({compression})", format.as_str()),
                Kind::Pipe => "pipe".into(),
                Kind::Stdin => "standard input".into(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let kinds = match &kinds.into_iter().collect::<Vec<_>>()[..] {
            [(kind, _)] => kind.clone(),
            several => several.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", "),
        };
        let count = match (self.config.shard, self.inputs.len()) {
            (Some(shard), all) => format!("{} of {all} inputs ({shard})", self.own().count()),
            (None, 1) => self.inputs[0].shown.clone(),
            (None, count) => format!("{count} inputs"),
        };
        match self.bytes_total {
            Some(bytes) => format!("{count}, {}: {kinds}", shown_bytes(bytes)),
            None => format!("{count}: {kinds}"),
        }
    }
}

impl Source for FileSource {
    fn run(mut self: Box<Self>, outlet: &mut Outlet) -> Result<(), SourceError> {
        self.sample = None;
        loop {
            let run = match self.ahead.pop_front() {
                Some(run) => run,
                None => match self.next_run()? {
                    Some(run) => run,
                    None => return Ok(()),
                },
            };
            let Some(run) = self.unsettled(run) else { continue };
            if outlet.send(&run.partition, run.body, run.input_bytes_read).is_err() {
                return Ok(());
            }
        }
    }
}

/// A size as people read it.
fn shown_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = "bytes";
    for larger in units {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{scaled:.1} {unit}") }
}

fn is_unreadable(record: &Record) -> bool {
    matches!(record.payload, Payload::Unreadable { .. })
}

fn open_input(config: &FilesConfig, columns: &[String], input: &Input, ordinal: usize) -> Result<Reading, SourceError> {
    let partition = Arc::new(Partition::File { ordinal: ordinal as u32, path: input.shown.clone() });
    let bytes = match input.kind {
        Kind::File { bytes, .. } => Some(bytes),
        Kind::Pipe | Kind::Stdin => None,
    };
    Ok(Reading { partition, reader: reader(config, columns, input)?, bytes, records: 0 })
}

#[cfg(test)]
mod tests;

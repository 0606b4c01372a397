//! The [`Source`] that reads all inputs, one after the other.
//!
//! In: [`FilesConfig`]. Out: the records of all inputs that this run's shard owns, from where an earlier run stopped if
//! it resumes. Kept: the list of inputs, one open input, and until `run` the records of the sample, which are read
//! ahead to infer the types of columns and then sent like all others. Fails if an input is missing or cannot be opened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::config::FilesConfig;
use super::inputs::{self, Input, InputKind};
use super::open_reader::open_reader;
use super::reader::Reader;
use super::resume::{InputFingerprints, Resume};
use super::stream::Compression;
use crate::record::{Body, Partition, Payload, Record};
use crate::source::{RecordSender, Source, SourceError};

/// How many records column types are inferred from: enough to meet a rare float among integers, and read in
/// milliseconds.
const SAMPLE_RECORDS: usize = 1_000;
/// Maximum bytes that column types are inferred from, so that long records do not pile up before the run starts.
const SAMPLE_BYTES: usize = 1 << 20;

/// All inputs, inspected and ready to be read.
pub struct FileSource {
    config: FilesConfig,
    /// The top-level columns to read; empty for all.
    columns: Vec<String>,
    /// The inputs of all shards.
    inputs: Vec<Input>,
    bytes_total: Option<u64>,
    current: Option<OpenInput>,
    /// The index of the input to open next.
    next_input: usize,
    /// Bytes of the inputs that were read to their end.
    bytes_done: u64,
    /// Records read by [`FileSource::sample`] and not yet sent.
    pub(super) read_ahead: VecDeque<InputRecords>,
    sample: Option<Body>,
    /// Where to start; an earlier run has settled all records before.
    resume: Option<Resume>,
}

/// The input being read.
struct OpenInput {
    partition: Arc<Partition>,
    reader: Box<dyn Reader>,
    /// Its size on disk (compressed); `None` for a pipe.
    bytes: Option<u64>,
    /// How many records were read.
    records: u64,
}

/// Consecutive records of one input.
pub(super) struct InputRecords {
    pub partition: Arc<Partition>,
    pub body: Body,
    /// Bytes of all inputs read so far, as they lie on disk.
    pub input_bytes_read: u64,
}

impl FileSource {
    /// Lists all inputs, checks that each can be opened, and detects formats and compressions. Standard input and pipes
    /// are not touched. Only the top-level fields in `columns` need to be read; all fields if it is empty.
    ///
    /// # Errors
    /// If a setting is wrong, or for the first input that is missing, cannot be opened, or has an unsupported compression.
    pub fn open(config: &FilesConfig, columns: &[String]) -> Result<Self, SourceError> {
        let inputs = inputs::expand(config)?;
        if let (Some(_), Some(pipe)) = (config.shard, inputs.iter().find(|input| input.kind == InputKind::Pipe)) {
            let message = format!(
                "{}: a pipe cannot be read by several runs; expected files (or no source.files.shard)",
                pipe.shown
            );
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
            current: None,
            next_input: 0,
            bytes_done: 0,
            read_ahead: VecDeque::new(),
            sample: None,
            resume: None,
        };
        let sizes = source.owned_inputs().map(|input| match input.kind {
            InputKind::File { bytes, .. } => Some(bytes),
            InputKind::Pipe | InputKind::Stdin => None,
        });
        source.bytes_total = sizes.sum();
        source
    }

    /// Whether this run reads the input with index `ordinal`.
    fn owns(&self, ordinal: usize) -> bool {
        self.config.shard.is_none_or(|shard| shard.owns(ordinal))
    }

    /// The inputs that this run reads: those of its shard, or all if there are no shards.
    fn owned_inputs(&self) -> impl Iterator<Item = &Input> {
        self.inputs.iter().enumerate().filter(|(ordinal, _)| self.owns(*ordinal)).map(|(_, input)| input)
    }

    /// Bytes of the inputs that this run reads, as they lie on disk; `None` if one is standard input or a pipe.
    pub fn input_bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// The first records of the first input that has any, to infer column types from; they are still sent by `run`.
    /// Call it only to infer types: on a pipe it waits for [`SAMPLE_RECORDS`] records, or for the first one if the
    /// source is `live`.
    ///
    /// # Errors
    /// As [`Source::run`].
    pub fn sample(&mut self, live: bool) -> Result<Option<&Body>, SourceError> {
        let records_max = if live { 1 } else { SAMPLE_RECORDS };
        if self.sample.is_none() {
            self.sample = match self.config.shard {
                None => self.read_sample(records_max)?,
                // The sample is taken of all inputs, so that every shard infers the same types.
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
            let Some(read) = self.next_records()? else { break };
            records += read.body.len();
            bytes += (0..read.body.len()).map(|index| read.body.bytes(index)).sum::<usize>();
            let body = read.body.clone();
            let partition = read.partition.clone();
            self.read_ahead.push_back(read);
            match (&mut sample, body) {
                // An unreadable input at the start tells nothing about types.
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

    /// The next records of any input; `None` after the last input.
    pub(super) fn next_records(&mut self) -> Result<Option<InputRecords>, SourceError> {
        loop {
            let Some(current) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(body) = current.reader.next()? {
                if body.is_empty() {
                    continue;
                }
                current.records += body.len() as u64;
                let read = current.reader.input_bytes_read().min(current.bytes.unwrap_or(u64::MAX));
                let input_bytes_read = self.bytes_done + read;
                return Ok(Some(InputRecords { partition: current.partition.clone(), body, input_bytes_read }));
            }
            if current.records == 0 {
                tracing::warn!(input = %current.partition.name(), "input contains no records");
            }
            self.bytes_done += current.bytes.unwrap_or_else(|| current.reader.input_bytes_read());
            self.current = None;
        }
    }

    /// Opens the next input, unless this run does not own it or an earlier run has settled it. Returns whether there
    /// was a next input.
    fn open_next(&mut self) -> Result<bool, SourceError> {
        let ordinal = self.next_input;
        let Some(input) = self.inputs.get(ordinal) else { return Ok(false) };
        self.next_input += 1;
        if !self.owns(ordinal) {
            return Ok(true);
        }
        let is_settled = self.resume.is_some_and(|resume| ordinal < resume.ordinal as usize);
        match input.kind {
            InputKind::File { bytes, .. } if is_settled => self.bytes_done += bytes,
            _ if is_settled => {}
            _ => self.current = Some(open_input(&self.config, &self.columns, input, ordinal)?),
        }
        Ok(true)
    }

    /// The paths of the files of all shards; standard input and pipes have none.
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        self.inputs
            .iter()
            .filter(|input| matches!(input.kind, InputKind::File { .. }))
            .map(|input| input.path.as_path())
    }

    /// The fingerprints of the inputs of all shards; `None` if one is standard input or a pipe.
    pub fn fingerprints(&self) -> Option<InputFingerprints> {
        InputFingerprints::new(&self.inputs)
    }

    /// A text that is the same for all shards that share these inputs: the fingerprint of all inputs and the number of
    /// shards. `None` without shards.
    pub fn shared_inputs(&self) -> Option<String> {
        let shard = self.config.shard?;
        Some(format!("{} in {}", self.fingerprints()?.all(), shard.count))
    }

    /// Starts at `resume`; an earlier run has settled all records before.
    pub fn resume(&mut self, resume: Resume) {
        self.resume = Some(resume);
    }

    /// The records without those that an earlier run has settled.
    fn unsettled(&self, mut read: InputRecords) -> Option<InputRecords> {
        let Some(Resume { ordinal, next }) = self.resume else { return Some(read) };
        match read.partition.ordinal() {
            before if before < ordinal => None,
            same if same == ordinal => {
                let settled = (0..read.body.len()).take_while(|&index| read.body.offset(index) < next).count();
                read.body = read.body.split_off(settled);
                (!read.body.is_empty()).then_some(read)
            }
            _ => Some(read),
        }
    }

    /// One line for `explain`: number, size, formats and compressions of the inputs.
    pub fn describe(&self) -> String {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for input in self.owned_inputs() {
            let kind = match input.kind {
                InputKind::File { format, compression: Compression::None, .. } => format.as_str().to_string(),
                InputKind::File { format, compression, .. } => format!("{} ({compression})", format.as_str()),
                InputKind::Pipe => "pipe".into(),
                InputKind::Stdin => "standard input".into(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let kinds = match &kinds.into_iter().collect::<Vec<_>>()[..] {
            [(kind, _)] => kind.clone(),
            several => several.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", "),
        };
        let count = match (self.config.shard, self.inputs.len()) {
            (Some(shard), all) => format!("{} of {all} inputs ({shard})", self.owned_inputs().count()),
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
    fn run(mut self: Box<Self>, sender: &mut RecordSender) -> Result<(), SourceError> {
        self.sample = None;
        loop {
            let read = match self.read_ahead.pop_front() {
                Some(read) => read,
                None => match self.next_records()? {
                    Some(read) => read,
                    None => return Ok(()),
                },
            };
            let Some(read) = self.unsettled(read) else { continue };
            if sender.send(&read.partition, read.body, read.input_bytes_read).is_err() {
                return Ok(());
            }
        }
    }
}

/// A size in the largest unit in which it is at least 1.
pub(super) fn shown_bytes(bytes: u64) -> String {
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

fn open_input(
    config: &FilesConfig,
    columns: &[String],
    input: &Input,
    ordinal: usize,
) -> Result<OpenInput, SourceError> {
    let partition = Arc::new(Partition::File { ordinal: ordinal as u32, path: input.shown.clone() });
    let bytes = match input.kind {
        InputKind::File { bytes, .. } => Some(bytes),
        InputKind::Pipe | InputKind::Stdin => None,
    };
    Ok(OpenInput { partition, reader: open_reader(config, columns, input)?, bytes, records: 0 })
}

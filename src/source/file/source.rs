//! All inputs, one after the other, as one source; and its first records as a sample of the columns' types.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::config::FilesConfig;
use super::inputs::{self, Input, Kind};
use super::open::reader;
use super::reader::Reader;
use super::resume::{InputFingerprints, Resume};
use super::stream::Compression;
use crate::record::{Body, Partition, Payload, Record};
use crate::source::{RecordSender, Source, SourceError};

/// How many records column types are inferred from: enough to see a rare float among integers, read in milliseconds.
const SAMPLE_RECORDS: usize = 1_000;
/// Most bytes that column types are inferred from, so that long records do not pile up before the run starts.
const SAMPLE_BYTES: usize = 1 << 20;

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
    pub(super) ahead: VecDeque<Run>,
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
pub(super) struct Run {
    pub partition: Arc<Partition>,
    pub body: Body,
    pub input_bytes_read: u64,
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
    pub(super) fn next_run(&mut self) -> Result<Option<Run>, SourceError> {
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
    pub fn marks(&self) -> Option<InputFingerprints> {
        InputFingerprints::new(&self.inputs)
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
    fn run(mut self: Box<Self>, outlet: &mut RecordSender) -> Result<(), SourceError> {
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

fn open_input(config: &FilesConfig, columns: &[String], input: &Input, ordinal: usize) -> Result<Reading, SourceError> {
    let partition = Arc::new(Partition::File { ordinal: ordinal as u32, path: input.shown.clone() });
    let bytes = match input.kind {
        Kind::File { bytes, .. } => Some(bytes),
        Kind::Pipe | Kind::Stdin => None,
    };
    Ok(Reading { partition, reader: reader(config, columns, input)?, bytes, records: 0 })
}

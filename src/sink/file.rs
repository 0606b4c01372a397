//! Rows to Arrow IPC or Parquet files: one file, or a folder of files that are named by the positions they hold.
//!
//! In a folder a new file is begun once one has `file_rows` rows, always between two windows, so the same input and plan
//! give the same names with the same bytes, and running again after a kill writes them again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::{FileFormat, FormatWriter};
use super::whole_file::{WholeFile, prepare_folder};
use super::{Sink, SinkError, WindowRows, Written};
use crate::output::OutputSchema;
use crate::output::read::OutputFile;
use crate::record::DeadLetter;

/// `sink.arrow:` and `sink.parquet:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileSinkConfig {
    /// A file; or a folder, if it ends with / or is one already.
    pub path: String,
    /// Rows after which the next file of a folder is begun.
    pub file_rows: u64,
    /// Of a Kafka topic's rows: seconds after which a file is finished, full or not. Its positions are committed then.
    pub file_seconds: u64,
}

/// A million vectors of 384 floats are 1.5 GB: large enough for readers, small enough to write again.
const FILE_ROWS: u64 = 1_000_000;
/// What is read again after a kill, and how long rows of a quiet topic wait; many small files are a burden to readers.
const FILE_SECONDS: u64 = 60;

impl Default for FileSinkConfig {
    fn default() -> Self {
        FileSinkConfig { path: String::new(), file_rows: FILE_ROWS, file_seconds: FILE_SECONDS }
    }
}

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    /// With the limits of its files; see [`FileSinkConfig`].
    Folder {
        path: PathBuf,
        file_rows: u64,
        file_age: Duration,
    },
}

impl Target {
    pub fn new(path: &str, file_rows: u64, file_seconds: u64) -> Self {
        if path.ends_with('/') || Path::new(path).is_dir() {
            Target::Folder { path: path.into(), file_rows, file_age: Duration::from_secs(file_seconds) }
        } else {
            Target::File(path.into())
        }
    }
}

pub struct FileSink {
    format: FileFormat,
    target: Target,
    schema: OutputSchema,
    open: Option<OpenFile>,
    written: Vec<Written>,
}

/// In a file's provenance: which inputs its shard is one of, and of how many; see `FileSource::shared`.
pub const SHARED_INPUTS: &str = "shared_inputs";

/// The files of this format that there are.
fn others(folder: &Path, format: FileFormat) -> impl Iterator<Item = PathBuf> {
    let extension = std::ffi::OsStr::new(format.extension());
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(move |path| path.extension() == Some(extension))
}

/// A shard's files lie beside those of the other shards. Files made of another list of inputs, by another number of
/// shards, or with other settings have rows that come again here, or leave out some that nobody has. Without shards, files
/// of an earlier run that this one does not write again stay beside its own.
fn refuse_shards_of_others(folder: &Path, format: FileFormat, shared: Option<&String>) -> Result<(), SinkError> {
    let mut earlier = 0;
    for path in others(folder, format) {
        let theirs = OutputFile::open(&path).ok().and_then(|file| file.provenance().remove(SHARED_INPUTS));
        match (shared, theirs) {
            (Some(shared), Some(theirs)) if theirs == *shared => {}
            (None, None) => earlier += 1,
            _ => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let message = "it holds files of another run: of other inputs, by another number of shards, or with other \
                               settings. Choose another folder, or empty this one";
                let path = format!("{} ({name} in it)", folder.display());
                return Err(SinkError::Format { path, message: message.into() });
            }
        }
    }
    if earlier > 0 {
        tracing::warn!(
            folder = %folder.display(),
            files = earlier,
            "there are files of an earlier run; those whose names this run does not write stay as they are"
        );
    }
    Ok(())
}

struct OpenFile {
    writer: FormatWriter,
    rows: u64,
}

impl FileSink {
    /// Makes the folder if need be and begins a single file at once, so that a place that cannot be written is refused
    /// before any data moves.
    pub fn create(format: FileFormat, target: Target, schema: OutputSchema) -> Result<Self, SinkError> {
        let mut sink = FileSink { format, target, schema, open: None, written: Vec::new() };
        match &sink.target {
            Target::File(path) => sink.open = Some(sink.begin(path)?),
            Target::Folder { path, .. } => {
                prepare_folder(path)?;
                let shared = sink.schema.schema().metadata().get(&format!("embedmill.{SHARED_INPUTS}"));
                refuse_shards_of_others(path, format, shared)?;
            }
        }
        Ok(sink)
    }

    fn begin(&self, path: &Path) -> Result<OpenFile, SinkError> {
        let file = WholeFile::create(path)?;
        Ok(OpenFile { writer: FormatWriter::new(self.format, file, &self.schema)?, rows: 0 })
    }

    fn end(&mut self, open: OpenFile) -> Result<(), SinkError> {
        let file = open.writer.into_file()?;
        let path = file.path().to_path_buf();
        let bytes = file.finish()?;
        self.written.push(Written { path, rows: open.rows, bytes });
        Ok(())
    }
}

impl Sink for FileSink {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        let Some(first) = rows.window.blocks.first().map(|block| block.position(0)) else { return Ok(Vec::new()) };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => match &self.target {
                Target::File(path) => self.begin(path)?,
                Target::Folder { path, .. } => {
                    let (ordinal, offset) = (first.partition.ordinal(), first.offset);
                    self.begin(&path.join(format!("{ordinal:06}-{offset:012}.{}", self.format.extension())))?
                }
            },
        };
        open.writer.write(&rows.output.batch)?;
        open.rows += rows.output.rows() as u64;
        match self.target {
            Target::Folder { file_rows, .. } if open.rows >= file_rows => self.end(open)?,
            _ => self.open = Some(open),
        }
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        if let Some(open) = self.open.take() {
            self.end(open)?;
        }
        Ok(self.written)
    }
}

//! Rows to Arrow IPC or Parquet files: one file, or a folder of files that are named by the position of their first
//! record.
//!
//! In a folder the next file is begun once a file has `file_rows` rows, always between two windows. So the same input
//! and plan give the same files with the same bytes, and a run after a kill writes them again.

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
    /// A file, or a folder if the path ends with / or is an existing folder.
    pub path: String,
    /// In a folder: rows after which the next file is begun.
    pub file_rows: u64,
    /// From a Kafka topic: seconds after which a file is finished, full or not. Its offsets are committed then.
    pub file_seconds: u64,
}

/// Default of `file_rows`. A million vectors of 384 floats are 1.5 GB: large enough for readers, small enough to write
/// again.
const FILE_ROWS: u64 = 1_000_000;
/// Default of `file_seconds`. It limits what is read again after a kill, and how long rows of a quiet topic wait;
/// shorter times make many small files.
const FILE_SECONDS: u64 = 60;

impl Default for FileSinkConfig {
    fn default() -> Self {
        FileSinkConfig { path: String::new(), file_rows: FILE_ROWS, file_seconds: FILE_SECONDS }
    }
}

/// Where rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One file.
    File(PathBuf),
    /// A folder of files.
    Folder {
        /// The folder.
        path: PathBuf,
        /// See [`FileSinkConfig::file_rows`].
        file_rows: u64,
        /// See [`FileSinkConfig::file_seconds`].
        file_age: Duration,
    },
}

impl Target {
    /// The target that [`FileSinkConfig::path`] names.
    pub fn new(path: &str, file_rows: u64, file_seconds: u64) -> Self {
        if path.ends_with('/') || Path::new(path).is_dir() {
            Target::Folder { path: path.into(), file_rows, file_age: Duration::from_secs(file_seconds) }
        } else {
            Target::File(path.into())
        }
    }
}

/// Writes rows to a [`Target`].
pub(crate) struct FileSink {
    format: FileFormat,
    target: Target,
    schema: OutputSchema,
    open: Option<OpenFile>,
    written: Vec<Written>,
}

/// The key of a file's provenance for the inputs that shards share; see `FileSource::shared_inputs`.
pub(crate) const SHARED_INPUTS: &str = "shared_inputs";

/// The existing files of this format in a folder.
fn existing_files(folder: &Path, format: FileFormat) -> impl Iterator<Item = PathBuf> {
    let extension = std::ffi::OsStr::new(format.extension());
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(move |path| path.extension() == Some(extension))
}

/// Refuses a folder with files of other inputs, of another number of shards, or of other settings. The folder would
/// then have rows twice, or lack some. All shards of one list of inputs write to the same folder. Without shards, files
/// of an earlier run are only warned of: those that this run does not write again stay.
///
/// # Errors
/// If a file of another list of shards is found.
fn refuse_other_shards(folder: &Path, format: FileFormat, shared: Option<&String>) -> Result<(), SinkError> {
    let mut earlier = 0;
    for path in existing_files(folder, format) {
        let found = match OutputFile::open(&path) {
            Ok(file) => file.provenance().remove(SHARED_INPUTS),
            Err(error) if error.is_later_version => {
                return Err(SinkError::Existing { path: error.path, message: error.message });
            }
            // Whatever it is, it is not a file of another list of shards.
            Err(_) => None,
        };
        match (shared, found) {
            (Some(shared), Some(found)) if found == *shared => {}
            (None, None) => earlier += 1,
            _ => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let message = format!(
                    "found {name}, a file of another run (other inputs, another number of shards, or other settings); expected \
                     a folder without such files (choose another folder, or empty this one)"
                );
                return Err(SinkError::Format { path: folder.display().to_string(), message });
            }
        }
    }
    if earlier > 0 {
        tracing::warn!(
            folder = %folder.display(),
            files = earlier,
            "found files of an earlier run; those that this run does not write again stay"
        );
    }
    Ok(())
}

struct OpenFile {
    writer: FormatWriter,
    rows: u64,
}

impl FileSink {
    /// Creates the folder, or the temporary file of a single file, so that a path that cannot be written is refused
    /// before any data moves.
    ///
    /// # Errors
    /// If it cannot be created, or the folder has files of other shards.
    pub(crate) fn create(format: FileFormat, target: Target, schema: OutputSchema) -> Result<Self, SinkError> {
        let mut sink = FileSink { format, target, schema, open: None, written: Vec::new() };
        match &sink.target {
            Target::File(path) => sink.open = Some(sink.begin(path)?),
            Target::Folder { path, .. } => {
                prepare_folder(path)?;
                let shared = sink.schema.schema().metadata().get(&format!("embedmill.{SHARED_INPUTS}"));
                refuse_other_shards(path, format, shared)?;
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

//! Rows to Arrow IPC or Parquet files: one file, or a folder of files that are named by the positions they hold.
//!
//! In a folder a new file is begun once one has `file_rows` rows, always between two windows, so the same input and plan
//! give the same names with the same bytes, and running again after a kill writes them again.

use std::path::{Path, PathBuf};

use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::whole_file::WholeFile;
use super::{Sink, SinkError, WindowRows, Written};
use crate::columnar::output::{Output, OutputSchema};
use crate::dead_letter::DeadLetter;

/// `sink.arrow:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrowConfig {
    /// A file; or a folder, if it ends with / or is one already.
    pub path: String,
    /// Rows after which the next file of a folder is begun.
    pub file_rows: u64,
}

/// `sink.parquet:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetConfig {
    /// A file; or a folder, if it ends with / or is one already.
    pub path: String,
    /// Rows after which the next file of a folder is begun.
    pub file_rows: u64,
}

/// A million vectors of 384 floats are 1.5 GB: large enough for readers, small enough to write again.
const FILE_ROWS: u64 = 1_000_000;
/// Parquet holds a row group in memory until it is full; 8,192 vectors of 384 floats are 12 MB.
const ROW_GROUP_ROWS: usize = 8_192;

impl Default for ArrowConfig {
    fn default() -> Self {
        ArrowConfig { path: String::new(), file_rows: FILE_ROWS }
    }
}

impl Default for ParquetConfig {
    fn default() -> Self {
        ParquetConfig { path: String::new(), file_rows: FILE_ROWS }
    }
}

/// The two file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Arrow,
    Parquet,
}

impl FileFormat {
    fn extension(self) -> &'static str {
        match self {
            FileFormat::Arrow => "arrow",
            FileFormat::Parquet => "parquet",
        }
    }
}

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Folder { path: PathBuf, file_rows: u64 },
}

impl Target {
    pub fn new(path: &str, file_rows: u64) -> Self {
        if path.ends_with('/') || Path::new(path).is_dir() {
            Target::Folder { path: path.into(), file_rows }
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
                let fail = |cause| SinkError::Io { path: path.clone(), action: "cannot be created", cause };
                std::fs::create_dir_all(path).map_err(fail)?;
                drop(WholeFile::create(&path.join("probe"))?);
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
        open.writer.write(rows.output)?;
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

enum FormatWriter {
    Arrow(Box<FileWriter<WholeFile>>),
    Parquet(Box<ArrowWriter<WholeFile>>, PathBuf),
}

impl FormatWriter {
    fn new(format: FileFormat, file: WholeFile, schema: &OutputSchema) -> Result<Self, SinkError> {
        let path = file.path().to_path_buf();
        match format {
            FileFormat::Arrow => {
                let writer = FileWriter::try_new(file, schema.schema()).map_err(|error| arrow_error(&path, error))?;
                Ok(FormatWriter::Arrow(Box::new(writer)))
            }
            FileFormat::Parquet => {
                let writer = ArrowWriter::try_new(file, schema.schema().clone(), Some(parquet_properties()));
                let writer = writer.map_err(|error| parquet_error(&path, error))?;
                Ok(FormatWriter::Parquet(Box::new(writer), path))
            }
        }
    }

    fn write(&mut self, output: &Output) -> Result<(), SinkError> {
        match self {
            FormatWriter::Arrow(writer) => {
                writer.write(&output.batch).map_err(|error| arrow_error(writer.get_ref().path(), error))
            }
            FormatWriter::Parquet(writer, path) => {
                writer.write(&output.batch).map_err(|error| parquet_error(path, error))
            }
        }
    }

    fn into_file(self) -> Result<WholeFile, SinkError> {
        match self {
            FormatWriter::Arrow(mut writer) => {
                writer.finish().map_err(|error| arrow_error(writer.get_ref().path(), error))?;
                let path = writer.get_ref().path().to_path_buf();
                writer.into_inner().map_err(|error| arrow_error(&path, error))
            }
            FormatWriter::Parquet(writer, path) => writer.into_inner().map_err(|error| parquet_error(&path, error)),
        }
    }
}

/// Floats of vectors neither repeat nor compress as they stand; their bytes regrouped do a little.
fn parquet_properties() -> WriterProperties {
    let vector = ColumnPath::from(vec!["vector".to_string(), "list".to_string(), "item".to_string()]);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_dictionary_enabled(vector.clone(), false)
        .set_column_encoding(vector, Encoding::BYTE_STREAM_SPLIT)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

fn arrow_error(path: &Path, error: arrow::error::ArrowError) -> SinkError {
    match error {
        arrow::error::ArrowError::IoError(_, cause) => {
            SinkError::Io { path: path.to_path_buf(), action: "cannot be written", cause }
        }
        other => SinkError::Format { path: path.display().to_string(), message: other.to_string() },
    }
}

fn parquet_error(path: &Path, error: parquet::errors::ParquetError) -> SinkError {
    SinkError::Format { path: path.display().to_string(), message: error.to_string() }
}

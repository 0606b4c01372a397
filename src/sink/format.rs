//! The formats of output files, Arrow IPC and Parquet, behind one writer.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::ColumnPath;

use super::SinkError;
use super::whole_file::WholeFile;
use crate::output::OutputSchema;

/// Parquet holds a row group in memory until it is full; 8,192 vectors of 384 floats are 12 MB.
const ROW_GROUP_ROWS: usize = 8_192;

/// A format of output files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Arrow IPC.
    Arrow,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// The extension of such files.
    pub fn extension(self) -> &'static str {
        match self {
            FileFormat::Arrow => "arrow",
            FileFormat::Parquet => "parquet",
        }
    }
}

/// Writes batches to a file.
pub(crate) enum FormatWriter {
    /// As Arrow IPC.
    Arrow(Box<FileWriter<WholeFile>>),
    /// As Parquet, with the path of the file for errors.
    Parquet(Box<ArrowWriter<WholeFile>>, PathBuf),
}

impl FormatWriter {
    /// Writes the beginning of the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn new(format: FileFormat, file: WholeFile, schema: &OutputSchema) -> Result<Self, SinkError> {
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

    /// Writes a batch.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        match self {
            FormatWriter::Arrow(writer) => {
                writer.write(batch).map_err(|error| arrow_error(writer.get_ref().path(), error))
            }
            FormatWriter::Parquet(writer, path) => writer.write(batch).map_err(|error| parquet_error(path, error)),
        }
    }

    /// Adds a key and its value to the metadata in the file's footer; [`read_metadata`] reads it.
    pub(crate) fn set_metadata(&mut self, key: &str, value: &str) {
        match self {
            FormatWriter::Arrow(writer) => writer.write_metadata(key, value),
            FormatWriter::Parquet(writer, _) => {
                writer.append_key_value_metadata(KeyValue::new(key.to_string(), value.to_string()));
            }
        }
    }

    /// Writes the footer, and returns the complete file, still under its temporary name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn into_file(self) -> Result<WholeFile, SinkError> {
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

/// The value of a key that [`FormatWriter::set_metadata`] has added; `None` if the file does not have the key.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn read_metadata(format: FileFormat, path: &Path, key: &str) -> Result<Option<String>, SinkError> {
    let file = std::fs::File::open(path);
    let file = file.map_err(|cause| SinkError::Io { path: path.into(), action: "cannot be read", cause })?;
    match format {
        FileFormat::Arrow => {
            let reader = FileReader::try_new(file, None).map_err(|error| arrow_error(path, error))?;
            Ok(reader.custom_metadata().get(key).cloned())
        }
        FileFormat::Parquet => {
            let reader = SerializedFileReader::new(file).map_err(|error| parquet_error(path, error))?;
            let pairs = reader.metadata().file_metadata().key_value_metadata();
            Ok(pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == key)?.value.clone()))
        }
    }
}

/// Float32 values of vectors do not repeat, so a dictionary is useless for them. BYTE_STREAM_SPLIT groups their bytes
/// by significance, which makes them compress a little.
fn parquet_properties() -> WriterProperties {
    let path = |column: &str, lists: usize| {
        let parts = ["list", "item"].iter().cycle().take(2 * lists);
        ColumnPath::from([column].iter().chain(parts).map(ToString::to_string).collect::<Vec<_>>())
    };
    let mut properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    for floats in [path("vector", 1), path("token_vectors", 2)] {
        properties = properties
            .set_column_dictionary_enabled(floats.clone(), false)
            .set_column_encoding(floats, Encoding::BYTE_STREAM_SPLIT);
    }
    properties.set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).build()
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

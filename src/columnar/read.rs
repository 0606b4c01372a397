//! Reads embedmill's output files back, batch by batch, for `inspect` and `search`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Table;
use super::output::Vectors;

/// Rows of a batch read from Parquet; small enough that a scan's memory is small.
const BATCH_ROWS: usize = 4_096;

/// One output file, open for reading.
pub struct OutputFile {
    path: PathBuf,
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub message: String,
}

impl OutputFile {
    /// # Errors
    /// If it cannot be read, or is neither Arrow nor Parquet.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let fail = |message: String| ReadError { path: path.to_path_buf(), message };
        let mut file = File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let mut magic = [0; 6];
        let start = file.read(&mut magic).and_then(|read| file.seek(SeekFrom::Start(0)).map(|_| read));
        let start = start.map_err(|error| fail(format!("cannot be read: {error}")))?;
        let unreadable = |error: ArrowError| fail(format!("is damaged or no Arrow file: {error}"));
        let damaged = |error: parquet::errors::ParquetError| fail(format!("is damaged or no Parquet file: {error}"));
        let (schema, batches): (SchemaRef, Box<dyn Iterator<Item = _>>) = match &magic[..start] {
            b"ARROW1" => {
                let reader = FileReader::try_new(BufReader::new(file), None).map_err(unreadable)?;
                (reader.schema(), Box::new(reader))
            }
            [0xff, 0xff, 0xff, 0xff, ..] => {
                let reader = StreamReader::try_new(BufReader::new(file), None).map_err(unreadable)?;
                (reader.schema(), Box::new(reader))
            }
            [b'P', b'A', b'R', b'1', ..] => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
                let schema = builder.schema().clone();
                (schema, Box::new(builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?))
            }
            _ => return Err(fail("is neither an Arrow nor a Parquet file".into())),
        };
        Ok(OutputFile { path: path.to_path_buf(), schema, batches })
    }

    /// What the run that wrote it says of itself, by key without the `embedmill.` before it.
    pub fn provenance(&self) -> BTreeMap<String, String> {
        let own = |(key, value): (&String, &String)| Some((key.strip_prefix("embedmill.")?.to_string(), value.clone()));
        self.schema.metadata().iter().filter_map(own).collect()
    }

    /// Each column's name, type, and whether it can be null.
    pub fn columns(&self) -> Vec<(String, String, bool)> {
        let column = |field: &arrow::datatypes::FieldRef| {
            (field.name().clone(), field.data_type().to_string(), field.is_nullable())
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// The next batch of vectors with their rows.
    pub fn next_vectors(&mut self) -> Option<Result<Vectors, ReadError>> {
        let batch = self.next_batch()?;
        Some(batch.and_then(|batch| Vectors::new(batch).map_err(|message| self.fail(message))))
    }

    /// The next batch as a table.
    pub fn next_table(&mut self) -> Option<Result<Table, ReadError>> {
        Some(self.next_batch()?.map(Table::new))
    }

    fn next_batch(&mut self) -> Option<Result<RecordBatch, ReadError>> {
        Some(self.batches.next()?.map_err(|error| self.fail(format!("is damaged: {error}"))))
    }

    fn fail(&self, message: String) -> ReadError {
        ReadError { path: self.path.clone(), message }
    }
}

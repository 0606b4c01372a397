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

use super::Vectors;
use super::quantize::{OutputPrecision, Quantizer, Ranges, RangesConfig};
use crate::columnar::Table;

/// Rows of a batch read from Parquet; small enough that a scan's memory is small.
const BATCH_ROWS: usize = 4_096;

/// Longer vectors are no model's, and would be a hostile number's allocation.
const DIM_MAX: usize = 1 << 20;

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

    /// What turns its vectors back into numbers. `ranges` is the calibration file that they were made with, where one was.
    ///
    /// # Errors
    /// If there have to be ranges and these are not the ones.
    pub fn quantizer(&self, ranges: Option<&Path>) -> Result<Quantizer, ReadError> {
        let provenance = self.provenance();
        let told = |key: &str| provenance.get(key).map(String::as_str);
        let precision: OutputPrecision =
            told("output_precision").unwrap_or("float32").parse().map_err(|message| self.fail(message))?;
        if !precision.needs_ranges() {
            return Quantizer::new(precision, None).map_err(|message| self.fail(message));
        }
        let same = told("ranges").and_then(|ranges| serde_json::from_str::<[f32; 2]>(ranges).ok());
        let config = match (same, ranges) {
            (Some(same), None) => RangesConfig::Same(same),
            (Some([least, most]), Some(_)) => {
                let message =
                    format!("its vectors were made with the ranges {least},{most}, which it knows; leave out --ranges");
                return Err(self.fail(message));
            }
            (None, Some(path)) => RangesConfig::File(path.to_owned()),
            (None, None) => {
                let message =
                    format!("its vectors are {precision}; give the calibration file of their making: --ranges FILE");
                return Err(self.fail(message));
            }
        };
        let all: Vec<(String, String)> = provenance.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let found = Ranges::read(&config, self.dim()?, &all).map_err(|error| self.fail(error.to_string()))?;
        if told("ranges_sha256") != Some(found.sha256().as_str()) {
            return Err(self.fail("its vectors were made with other ranges than those of --ranges".into()));
        }
        Quantizer::new(precision, Some(found)).map_err(|message| self.fail(message))
    }

    /// How many values the vectors had before they were written.
    fn dim(&self) -> Result<usize, ReadError> {
        let provenance = self.provenance();
        let dim = provenance.get("dim").and_then(|dim| dim.parse().ok()).filter(|dim| (1..=DIM_MAX).contains(dim));
        dim.ok_or_else(|| {
            self.fail("its metadata does not say how many values its vectors have (embedmill.dim)".into())
        })
    }

    /// The next batch of vectors with their rows.
    pub fn next_vectors(&mut self, quantizer: &Quantizer) -> Option<Result<Vectors, ReadError>> {
        let batch = self.next_batch()?;
        let dim = match quantizer.precision() {
            // The column itself says.
            OutputPrecision::Float32 => Ok(0),
            _ => self.dim(),
        };
        let vectors =
            batch.and_then(|batch| Vectors::restored(batch, quantizer, dim?).map_err(|message| self.fail(message)));
        Some(vectors)
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

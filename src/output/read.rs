//! Reads embedmill's output files, for `inspect` and `search`.
//!
//! In: an Arrow or Parquet file. Out: its metadata, and its rows batch by batch. Kept: one batch. Fails with the path
//! and what is wrong with the file.

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
use super::version::check_version;
use crate::columnar::Table;

/// Rows of a batch read from Parquet: few enough that a scan needs little memory.
const BATCH_ROWS: usize = 4_096;

/// Maximum values of a vector. No model has longer vectors; a larger number in a file's metadata would only allocate
/// memory.
const DIM_MAX: usize = 1 << 20;

/// One output file, open for reading.
pub struct OutputFile {
    path: PathBuf,
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

/// Why an output file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// Whether a later version of embedmill wrote it, in a format that this one does not know.
    pub is_later_version: bool,
}

impl OutputFile {
    /// Opens an Arrow file, an Arrow stream or a Parquet file, as its first bytes tell.
    ///
    /// # Errors
    /// If the file cannot be read, is neither Arrow nor Parquet, or a later version of embedmill wrote it in a format that
    /// this one does not know.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let fail = |message: String| ReadError { path: path.to_path_buf(), message, is_later_version: false };
        let mut file = File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let mut magic = [0; 6];
        let start = file.read(&mut magic).and_then(|read| file.seek(SeekFrom::Start(0)).map(|_| read));
        let start = start.map_err(|error| fail(format!("cannot be read: {error}")))?;
        let unreadable = |error: ArrowError| fail(format!("invalid Arrow file: {error}"));
        let damaged = |error: parquet::errors::ParquetError| fail(format!("invalid Parquet file: {error}"));
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
            _ => return Err(fail("unknown format; expected an Arrow or Parquet file".into())),
        };
        check_version(|key| schema.metadata().get(key).map(String::as_str))
            .map_err(|message| ReadError { is_later_version: true, ..fail(message) })?;
        Ok(OutputFile { path: path.to_path_buf(), schema, batches })
    }

    /// The metadata that the run wrote, with keys without the prefix `embedmill.`.
    pub fn provenance(&self) -> BTreeMap<String, String> {
        let own = |(key, value): (&String, &String)| Some((key.strip_prefix("embedmill.")?.to_string(), value.clone()));
        self.schema.metadata().iter().filter_map(own).collect()
    }

    /// Each column's name, type, and whether it is nullable.
    pub fn columns(&self) -> Vec<(String, String, bool)> {
        let column = |field: &arrow::datatypes::FieldRef| {
            (field.name().clone(), field.data_type().to_string(), field.is_nullable())
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// The quantizer that restores the file's vectors. `ranges` is the calibration file that they were written with, if
    /// any.
    ///
    /// # Errors
    /// If a calibration file is missing, superfluous, or not the one that the vectors were written with.
    pub fn quantizer(&self, ranges: Option<&Path>) -> Result<Quantizer, ReadError> {
        let provenance = self.provenance();
        let value_of = |key: &str| provenance.get(key).map(String::as_str);
        let precision: OutputPrecision =
            value_of("output_precision").unwrap_or("float32").parse().map_err(|message| self.fail(message))?;
        if !precision.needs_ranges() {
            return Quantizer::new(precision, None).map_err(|message| self.fail(message));
        }
        let same = value_of("ranges").and_then(|ranges| serde_json::from_str::<[f32; 2]>(ranges).ok());
        let config = match (same, ranges) {
            (Some(same), None) => RangesConfig::Same(same),
            (Some([min, max]), Some(_)) => {
                let message = format!("its metadata has the ranges {min},{max} of its vectors; expected no --ranges");
                return Err(self.fail(message));
            }
            (None, Some(path)) => RangesConfig::File(path.to_owned()),
            (None, None) => {
                let message = format!(
                    "its vectors are {precision}; expected the calibration file that they were made with (--ranges FILE)"
                );
                return Err(self.fail(message));
            }
        };
        let all: Vec<(String, String)> = provenance.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let found = Ranges::read(&config, self.dim()?, &all).map_err(|error| self.fail(error.to_string()))?;
        if value_of("ranges_sha256") != Some(found.sha256().as_str()) {
            return Err(self.fail(
                "its vectors were made with other ranges; expected --ranges to name their calibration file".into(),
            ));
        }
        Quantizer::new(precision, Some(found)).map_err(|message| self.fail(message))
    }

    /// How many values the vectors had before they were quantized.
    fn dim(&self) -> Result<usize, ReadError> {
        let provenance = self.provenance();
        let dim = provenance.get("dim").and_then(|dim| dim.parse().ok()).filter(|dim| (1..=DIM_MAX).contains(dim));
        dim.ok_or_else(|| {
            self.fail("metadata `embedmill.dim`: missing or invalid; expected the number of values of a vector".into())
        })
    }

    /// The next batch with its vectors restored; `None` at the end.
    pub fn next_vectors(&mut self, quantizer: &Quantizer) -> Option<Result<Vectors, ReadError>> {
        let batch = self.next_batch()?;
        let dim = match quantizer.precision() {
            // The type of the column says it.
            OutputPrecision::Float32 => Ok(0),
            _ => self.dim(),
        };
        let vectors =
            batch.and_then(|batch| Vectors::restored(batch, quantizer, dim?).map_err(|message| self.fail(message)));
        Some(vectors)
    }

    /// The next batch as a table; `None` at the end.
    pub fn next_table(&mut self) -> Option<Result<Table, ReadError>> {
        Some(self.next_batch()?.map(Table::new))
    }

    fn next_batch(&mut self) -> Option<Result<RecordBatch, ReadError>> {
        Some(self.batches.next()?.map_err(|error| self.fail(format!("corrupt: {error}"))))
    }

    fn fail(&self, message: String) -> ReadError {
        ReadError { path: self.path.clone(), message, is_later_version: false }
    }
}

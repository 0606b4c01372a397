//! The rows of a Parquet file.
//!
//! In: a [`Stream`]. Out: tables of rows. Kept: one page per column, whatever the size of the row groups, since pages
//! are read as rows are needed. A Parquet file is read from its footer, so an input that cannot seek (standard input, a
//! compressed file) is first copied to an unnamed temporary file. Fails only if that file cannot be written; a corrupt
//! file gives an unreadable record.

use std::fs::File;
use std::io::{self, BufReader};

use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::inputs::{Input, InputKind};
use super::reader::{BODY_BYTES_MAX, BODY_RECORDS_MAX, FailedReader, Reader, guarded, unreadable};
use super::stream::{Compression, Stream};
use crate::columnar::Table;
use crate::record::Body;
use crate::source::SourceError;

/// A file with its length, to refuse a range beyond its end before memory is allocated for it.
struct BoundedFile {
    file: File,
    bytes: u64,
}

impl Length for BoundedFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for BoundedFile {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            let bytes = self.bytes;
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of a file of {bytes} bytes")));
        }
        self.file.get_bytes(start, length)
    }
}

/// Opens a Parquet file to read these top-level `columns`; all columns if empty.
///
/// # Errors
/// If the temporary file cannot be written.
pub(crate) fn open(input: &Input, mut stream: Stream, columns: &[String]) -> Result<Box<dyn Reader>, SourceError> {
    let failed = |cause: String| -> Result<Box<dyn Reader>, SourceError> { Ok(Box::new(FailedReader::new(cause))) };
    let head = stream.peek(4);
    if head != b"PAR1" {
        return failed(match head {
            b"" => "empty file; expected a Parquet file (its writer did not finish it)".into(),
            b"PARE" => "encrypted Parquet file; expected an unencrypted one (decrypt it first)".into(),
            head => format!("begins with \"{}\"; expected a Parquet file", head.escape_ascii()),
        });
    }
    let in_place = matches!(input.kind, InputKind::File { .. }) && stream.compression() == Compression::None;
    let file = if in_place { File::open(&input.path).map_err(|error| error.to_string()) } else { spool(&mut stream)? };
    let opened = file.and_then(|file| {
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        guarded(|| ParquetReader::new(BoundedFile { file, bytes }, columns)).map_err(|error| {
            format!("the Parquet file cannot be read: {error} (it may be truncated; fetch or write it again)")
        })
    });
    match opened {
        Ok(rows) => Ok(Box::new(rows)),
        Err(cause) => failed(cause),
    }
}

/// Copies the whole stream to an unnamed temporary file. The inner error is that of the stream.
///
/// # Errors
/// If the temporary file cannot be written.
fn spool(stream: &mut Stream) -> Result<Result<File, String>, SourceError> {
    let io = |cause: io::Error| SourceError::Io { path: "a temporary file (in the folder TMPDIR)".into(), cause };
    let mut file = tempfile::tempfile().map_err(io)?;
    let mut block = vec![0; 256 << 10];
    loop {
        match stream.fill(&mut block) {
            Ok(0) => return Ok(Ok(file)),
            Ok(filled) => io::Write::write_all(&mut file, &block[..filled]).map_err(io)?,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}

/// Reads the rows of one file.
struct ParquetReader {
    batches: ParquetRecordBatchReader,
    bytes: u64,
    rows: u64,
    offset: u64,
    ended: bool,
}

impl ParquetReader {
    fn new(file: BoundedFile, columns: &[String]) -> ParquetResult<Self> {
        let bytes = file.bytes;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let metadata = builder.metadata().clone();
        let schema = builder.schema().clone();
        // If a column is missing, all columns are read, so that the error can list them.
        let wanted: Result<Vec<usize>, _> = columns.iter().map(|name| schema.index_of(name)).collect();
        let wanted = wanted.ok().filter(|wanted| !wanted.is_empty());
        let is_wanted = |root: usize| wanted.as_ref().is_none_or(|wanted| wanted.contains(&root));
        let mask = match &wanted {
            Some(wanted) => ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied()),
            None => ProjectionMask::all(),
        };
        // A batch has as many rows as fit in a body, judged by the row group with the widest rows.
        let widest = metadata.row_groups().iter().map(|group| {
            let descriptor = group.schema_descr();
            let columns = group.columns().iter().enumerate();
            let wanted = columns.filter(|(leaf, _)| is_wanted(descriptor.get_column_root_idx(*leaf)));
            let bytes: i64 = wanted.map(|(_, column)| column.uncompressed_size().max(0)).fold(0, i64::saturating_add);
            bytes / group.num_rows().max(1)
        });
        let widest = usize::try_from(widest.max().unwrap_or(1)).unwrap_or(1).max(1);
        let batch_rows = (BODY_BYTES_MAX / widest).clamp(1, BODY_RECORDS_MAX);
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let batches = builder.with_projection(mask).with_batch_size(batch_rows).build()?;
        Ok(ParquetReader { batches, bytes, rows, offset: 0, ended: false })
    }
}

impl Reader for ParquetReader {
    fn next(&mut self) -> Result<Option<Body>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        Ok(match guarded(|| self.batches.next().transpose()) {
            Ok(Some(batch)) => {
                let first_offset = self.offset;
                self.offset += batch.num_rows() as u64;
                Some(Body::Table { first_offset, table: Table::new(batch) })
            }
            Err(error) => {
                self.ended = true;
                let cause = format!("the Parquet file is corrupt from row {} on: {error}", self.offset + 1);
                Some(Body::Each(vec![unreadable(self.offset, &[], cause)]))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
        })
    }

    fn input_bytes_read(&self) -> u64 {
        // Pages are not read in file order, so the share of rows stands for the share of bytes.
        let share = self.offset as f64 / self.rows.max(1) as f64;
        (self.bytes as f64 * share.min(1.0)) as u64
    }
}

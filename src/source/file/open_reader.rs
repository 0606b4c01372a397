//! Opens an input with the [`Reader`] of its format.

use super::config::FilesConfig;
use super::format::Format;
use super::inputs::Input;
use super::reader::{FailedReader, Reader};
use super::{arrow_batches, csv_rows, document, json, lines, parquet_batches};
use crate::source::SourceError;

/// Opens one input, to read `columns` of it (all columns if empty). An input that cannot be opened gives one record, an
/// unreadable one with the reason.
///
/// # Errors
/// Only if this machine fails, as by a full disk for temporary files.
pub(crate) fn open_reader(
    config: &FilesConfig,
    columns: &[String],
    input: &Input,
) -> Result<Box<dyn Reader>, SourceError> {
    let mut stream = match input.stream() {
        Ok(stream) => stream,
        Err(error) => return Ok(Box::new(FailedReader::new(error.to_string()))),
    };
    let limit = config.record_bytes_max;
    let delimiter = |default: u8| config.delimiter.map_or(default, |delimiter| delimiter as u8);
    Ok(match input.format(config, &mut stream) {
        Format::Auto | Format::Text => Box::new(lines::LineReader::text(stream, limit)),
        Format::Jsonl => Box::new(lines::LineReader::json(stream, limit)),
        Format::Json => Box::new(json::JsonReader::new(stream, limit)),
        Format::Document => Box::new(document::DocumentReader::new(stream, limit)),
        Format::Csv => Box::new(csv_rows::DelimitedReader::new(stream, delimiter(b','), limit)),
        Format::Tsv => Box::new(csv_rows::DelimitedReader::new(stream, delimiter(b'\t'), limit)),
        Format::Arrow => Box::new(arrow_batches::ArrowReader::new(stream)),
        Format::Parquet => return parquet_batches::open(input, stream, columns),
    })
}

//! An input to the reader of its format.

use super::config::FilesConfig;
use super::format::Format;
use super::inputs::Input;
use super::reader::{Broken, Reader};
use super::{arrow_batches, delimited, document, json, lines, parquet_batches};
use crate::source::SourceError;

/// Opens one input. What is wrong with it is its one record, an unreadable one.
pub fn reader(config: &FilesConfig, columns: &[String], input: &Input) -> Result<Box<dyn Reader>, SourceError> {
    let mut stream = match input.stream() {
        Ok(stream) => stream,
        Err(error) => return Ok(Box::new(Broken::at(0, &[], error.to_string()))),
    };
    let limit = config.record_bytes_max;
    let delimiter = |usual: u8| config.delimiter.map_or(usual, |delimiter| delimiter as u8);
    Ok(match input.format(config, &mut stream) {
        Format::Auto | Format::Text => Box::new(lines::Lines::text(stream, limit)),
        Format::Jsonl => Box::new(lines::Lines::json(stream, limit)),
        Format::Json => Box::new(json::Values::new(stream, limit)),
        Format::Document => Box::new(document::Document::new(stream, limit)),
        Format::Csv => Box::new(delimited::Rows::new(stream, delimiter(b','), limit)),
        Format::Tsv => Box::new(delimited::Rows::new(stream, delimiter(b'\t'), limit)),
        Format::Arrow => Box::new(arrow_batches::Batches::new(stream)),
        Format::Parquet => return parquet_batches::open(input, stream, columns),
    })
}

//! Splits rows into messages: self-contained Arrow IPC streams of exactly one batch, each at most a given number of bytes.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use crate::output::Output;

/// The value of every message's `content-type` header.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.apache.arrow.stream";

/// A message's value, and how many rows it holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowsMessage {
    pub value: Vec<u8>,
    pub rows: usize,
}

/// A row that is larger than a message may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OversizedRow {
    /// The row's index in the output.
    pub row: usize,
    /// The size of a message with only this row.
    pub bytes: usize,
}

/// Rows of a window, split into messages.
#[derive(Debug, Default)]
pub(crate) struct SplitRows {
    pub messages: Vec<RowsMessage>,
    pub too_large: Vec<OversizedRow>,
}

/// Splits the rows in `ranges` of `output`, in this order, into messages of at most `bytes_max` bytes. A message that turns
/// out too large is halved, so messages are few but not always as few as possible.
///
/// # Errors
/// If Arrow cannot write the rows, which is a bug.
pub(crate) fn split_rows(output: &Output, ranges: &[Range<usize>], bytes_max: usize) -> Result<SplitRows, ArrowError> {
    let slices: Vec<RecordBatch> = ranges.iter().map(|range| output.batch.slice(range.start, range.len())).collect();
    let batch = match slices.as_slice() {
        [] => return Ok(SplitRows::default()),
        [only] => only.clone(),
        several => concat_batches(output.batch.schema_ref(), several)?,
    };
    let rows: Vec<usize> = ranges.iter().cloned().flatten().collect();
    let mut split = SplitRows::default();
    // The first split goes by the size in memory, so that most messages have to be written only once.
    let bytes: usize = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let row_bytes = (bytes / batch.num_rows().max(1)).max(1);
    let rows_max = (bytes_max.saturating_sub(bytes_max / 8) / row_bytes).max(1);
    for start in (0..batch.num_rows()).step_by(rows_max) {
        let count = rows_max.min(batch.num_rows() - start);
        write_or_halve(&batch.slice(start, count), &rows[start..start + count], bytes_max, &mut split)?;
    }
    Ok(split)
}

fn write_or_halve(
    batch: &RecordBatch,
    rows: &[usize],
    bytes_max: usize,
    split: &mut SplitRows,
) -> Result<(), ArrowError> {
    let value = ipc_stream(batch)?;
    if value.len() <= bytes_max {
        split.messages.push(RowsMessage { value, rows: rows.len() });
    } else if let [only] = rows {
        split.too_large.push(OversizedRow { row: *only, bytes: value.len() });
    } else {
        let middle = rows.len() / 2;
        write_or_halve(&batch.slice(0, middle), &rows[..middle], bytes_max, split)?;
        write_or_halve(&batch.slice(middle, rows.len() - middle), &rows[middle..], bytes_max, split)?;
    }
    Ok(())
}

fn ipc_stream(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, StringArray};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn ids(message: &RowsMessage) -> Vec<String> {
        let batches: Vec<_> = StreamReader::try_new(message.value.as_slice(), None)
            .and_then(Iterator::collect)
            .expect("it is an IPC stream");
        assert_eq!(batches.len(), 1, "exactly one batch per message");
        let ids = batches[0].column(0).as_string::<i32>().iter();
        ids.map(|id| id.expect("no id is null").to_string()).collect()
    }

    #[test]
    fn rows_are_split_below_the_limit_and_a_row_that_is_too_large_is_named() {
        let mut texts: Vec<String> = (0..100).map(|index| format!("row {index}")).collect();
        texts[40] = "x".repeat(10_000);
        let column = Arc::new(StringArray::from_iter_values(&texts)) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_from_iter([("id", column)]).expect("one column");
        let output = Output::new(batch, Vec::new());
        let split = split_rows(&output, &[0..30, 35..100], 1_000).expect("arrow writes strings");
        let expected: Vec<String> =
            (0..100).filter(|row| !(30..35).contains(row) && *row != 40).map(|row| texts[row].clone()).collect();
        assert_eq!(split.messages.iter().flat_map(ids).collect::<Vec<_>>(), expected);
        assert!(split.messages.iter().all(|message| message.value.len() <= 1_000));
        assert_eq!(split.too_large.iter().map(|oversized| oversized.row).collect::<Vec<_>>(), [40]);
    }
}

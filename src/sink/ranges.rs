//! Rows in, a calibration file out: the range of each value of the vectors. No row is written.
//!
//! The file is JSON. It gets its final name at the end of the run, and contains the provenance of the vectors, so that
//! it cannot be used with others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::whole_file::WholeFile;
use super::{Sink, SinkError, WindowRows, Written};
use crate::output::Vectors;
use crate::output::quantize::Calibration;
use crate::record::DeadLetter;

/// `sink.ranges:` in the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RangesSinkConfig {
    /// The calibration file.
    pub path: PathBuf,
}

/// Measures the ranges of vectors, for `embedmill calibrate`.
pub(crate) struct RangesSink {
    file: WholeFile,
    calibration: Calibration,
    made_by: BTreeMap<String, String>,
}

impl RangesSink {
    /// Creates the temporary file at once, so that a path that cannot be written is refused before any data moves.
    ///
    /// # Errors
    /// As [`WholeFile::create`].
    pub(crate) fn create(path: &Path, dim: usize, made_by: &[(String, String)]) -> Result<Self, SinkError> {
        let made_by = made_by.iter().cloned().collect();
        Ok(RangesSink { file: WholeFile::create(path)?, calibration: Calibration::new(dim), made_by })
    }

    fn fail(&self, message: String) -> SinkError {
        SinkError::Format { path: self.file.path().display().to_string(), message }
    }
}

impl Sink for RangesSink {
    fn write(&mut self, rows: &WindowRows<'_>) -> Result<Vec<DeadLetter>, SinkError> {
        let vectors = Vectors::new(rows.output.clone().into_batch()).map_err(|message| self.fail(message))?;
        (0..vectors.rows()).for_each(|row| self.calibration.add(vectors.row(row)));
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Written>, SinkError> {
        let path = self.file.path().to_owned();
        let (calibration, made_by) = (self.calibration.clone(), std::mem::take(&mut self.made_by));
        let rows = calibration.vectors();
        let ranges = calibration.into_file(made_by).map_err(|message| self.fail(message))?;
        self.file.write_with(|file| {
            serde_json::to_writer(&mut *file, &ranges)?;
            file.write_all(b"\n")
        })?;
        let bytes = self.file.finish()?;
        Ok(vec![Written { path, rows, bytes }])
    }
}

//! `output.ranges`: the range of each value of a vector, which int8 and uint8 divide into 255 steps.
//!
//! In: two numbers in the pipeline file, or a calibration file. Out: [`Ranges`]. Fails if the file cannot be read, or
//! was made for other vectors. Only [`Ranges::read`] and [`Ranges::open`] read files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::precision::OutputPrecision;
use crate::digest::hex;

/// `output.ranges`: the range of the values of a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the path of a file that `embedmill calibrate` made, or [MIN, MAX]")]
pub enum RangesConfig {
    /// The same range for every value: its minimum and maximum.
    Same([f32; 2]),
    /// A calibration file, made by `embedmill calibrate`.
    File(PathBuf),
}

/// Checks the ranges against the precision.
///
/// # Errors
/// The key, and what is wrong with its value.
pub(crate) fn check(precision: OutputPrecision, ranges: Option<&RangesConfig>) -> Result<(), (&'static str, String)> {
    match (precision.needs_ranges(), ranges) {
        (true, None) => {
            let message = format!(
                "missing; {precision} needs the ranges of the values; expected [MIN, MAX] or a calibration file (`embedmill \
                 calibrate` makes one from a part of the input)"
            );
            Err(("output.ranges", message))
        }
        (false, Some(_)) => Err((
            "output.ranges",
            format!("found, but output.precision {precision} does not use it; expected int8 or uint8"),
        )),
        (_, Some(RangesConfig::Same([min, max]))) if !(min.is_finite() && max.is_finite() && min < max) => {
            Err(("output.ranges", format!("found [{min}, {max}]; expected two numbers, the smaller one first")))
        }
        _ => Ok(()),
    }
}

/// The range of each value of a vector: as many minima and maxima as the vector has values.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    min: Vec<f32>,
    max: Vec<f32>,
}

/// The content of a calibration file.
#[derive(Debug, Serialize, Deserialize)]
pub struct RangesFile {
    /// The version of the file's format.
    pub format_version: u32,
    /// How many vectors were measured.
    pub vectors: u64,
    /// The smallest value in each dimension.
    pub min: Vec<f32>,
    /// The largest value in each dimension.
    pub max: Vec<f32>,
    /// The provenance of the vectors, as in the metadata of output files.
    pub made_by: BTreeMap<String, String>,
}

/// The version of the format of calibration files; it changes with the meaning of a field.
pub(super) const RANGES_VERSION: u32 = 1;
/// Maximum size of a calibration file: two numbers for each of 65,536 dimensions take some megabytes.
const RANGES_BYTES_MAX: u64 = 16 << 20;
/// The keys of the provenance that must be the same for ranges to fit the vectors.
const COMPARED_KEYS: [&str; 8] =
    ["backend", "weights_sha256", "modules_sha256", "modules", "dim", "dense", "truncate_dim", "route"];

/// Why a calibration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("output.ranges: {}: {message}", path.display())]
pub struct RangesError {
    /// The calibration file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl Ranges {
    /// The ranges from `min[i]` to `max[i]`.
    ///
    /// # Errors
    /// If there are no ranges, if the lengths differ, or if a minimum is above its maximum or a number is not finite.
    pub fn new(min: Vec<f32>, max: Vec<f32>) -> Result<Ranges, String> {
        if min.len() != max.len() || min.is_empty() {
            return Err(format!(
                "found {} minima and {} maxima; expected as many of both, at least 1",
                min.len(),
                max.len()
            ));
        }
        let invalid = min.iter().zip(&max).position(|(min, max)| !(min.is_finite() && max.is_finite() && min <= max));
        match invalid {
            Some(index) => Err(format!(
                "value {index}: found {} to {}; expected finite numbers, ascending",
                min[index], max[index]
            )),
            None => Ok(Ranges { min, max }),
        }
    }

    /// The number of values of a vector.
    pub fn dim(&self) -> usize {
        self.min.len()
    }

    /// The ranges for vectors of `dim` values with this `provenance`.
    ///
    /// # Errors
    /// If the calibration file cannot be read, or was made for other vectors.
    pub fn read(config: &RangesConfig, dim: usize, provenance: &[(String, String)]) -> Result<Ranges, RangesError> {
        let path = match config {
            RangesConfig::Same([min, max]) => {
                return Ok(Ranges { min: vec![*min; dim], max: vec![*max; dim] });
            }
            RangesConfig::File(path) => path,
        };
        let refuse = |message: String| RangesError { path: path.clone(), message };
        let (ranges, file) = Ranges::open(path)?;
        let known = |key: &str| provenance.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        for key in COMPARED_KEYS {
            let (then, now) = (file.made_by.get(key).map(String::as_str), known(key));
            if then != now {
                let shown = |value: Option<&str>| value.unwrap_or("none").to_owned();
                return Err(refuse(format!(
                    "made for other vectors: found `{key}` {}; expected {} (make it again with `embedmill calibrate`)",
                    shown(then),
                    shown(now)
                )));
            }
        }
        if ranges.dim() != dim {
            return Err(refuse(format!("found ranges for vectors of {} values; expected {dim}", ranges.dim())));
        }
        Ok(ranges)
    }

    /// Reads a calibration file, whatever vectors it was made for.
    ///
    /// # Errors
    /// If it cannot be read, or is not a calibration file.
    pub fn open(path: &Path) -> Result<(Ranges, RangesFile), RangesError> {
        let refuse = |message: String| RangesError { path: path.to_owned(), message };
        let unreadable = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
        if std::fs::metadata(path).map_err(unreadable)?.len() > RANGES_BYTES_MAX {
            return Err(refuse(format!("larger than {RANGES_BYTES_MAX} bytes; expected a calibration file")));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let invalid = |error: serde_json::Error| {
            refuse(format!("not a calibration file ({error}); expected a file that `embedmill calibrate` made"))
        };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(invalid)?;
        if let Some(version) = json.get("format_version").filter(|version| **version != RANGES_VERSION) {
            return Err(refuse(format!(
                "found format_version {version}; expected at most {RANGES_VERSION} (a later embedmill wrote it: use that version or a \
                 later one)"
            )));
        }
        let file: RangesFile = serde_json::from_value(json).map_err(invalid)?;
        let ranges = Ranges::new(file.min.clone(), file.max.clone()).map_err(refuse)?;
        Ok((ranges, file))
    }

    /// The range that all values have, if it is the same one.
    pub(super) fn same(&self) -> Option<[f32; 2]> {
        let (min, max) = (*self.min.first()?, *self.max.first()?);
        let same = self.min.iter().all(|other| *other == min) && self.max.iter().all(|other| *other == max);
        same.then_some([min, max])
    }

    /// A digest of the ranges, to tell whether two outputs have the same.
    pub fn sha256(&self) -> String {
        let bytes: Vec<u8> = self.min.iter().chain(&self.max).flat_map(|value| value.to_le_bytes()).collect();
        hex(&Sha256::digest(&bytes))
    }

    /// The minimum of value `column`.
    pub(super) fn min(&self, column: usize) -> f32 {
        self.min[column]
    }

    /// The minimum of each value.
    pub(super) fn minima(&self) -> &[f32] {
        &self.min
    }

    /// The difference between two consecutive 8-bit integers. The range of a constant value is empty; then any step
    /// does.
    pub(super) fn step(&self, column: usize) -> f32 {
        let step = (self.max[column] - self.min[column]) / 255.0;
        if step == 0.0 { 1.0 } else { step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_by_key() {
        let same = |min, max| Some(RangesConfig::Same([min, max]));
        let check =
            |precision, ranges: Option<RangesConfig>| check(precision, ranges.as_ref()).map_err(|(_, message)| message);
        assert_eq!(check(OutputPrecision::Int8, same(-0.5, 0.5)), Ok(()));
        assert_eq!(check(OutputPrecision::Binary, None), Ok(()));
        assert!(check(OutputPrecision::Uint8, None).is_err_and(|message| message.contains("embedmill calibrate")));
        assert!(check(OutputPrecision::Float32, same(0.0, 1.0)).is_err_and(|message| message.contains("does not use")));
        assert!(
            check(OutputPrecision::Int8, same(1.0, 1.0)).is_err_and(|message| message.contains("smaller one first"))
        );
    }
}

//! Calibration: the range of each value over many vectors, for a calibration file.

use std::collections::BTreeMap;

use super::ranges::{RANGES_VERSION, RangesFile};

/// The minimum and maximum of each value, over the vectors so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calibration {
    min: Vec<f32>,
    max: Vec<f32>,
    vectors: u64,
}

impl Calibration {
    /// A calibration of vectors of `dim` values.
    pub(crate) fn new(dim: usize) -> Calibration {
        Calibration { min: vec![f32::INFINITY; dim], max: vec![f32::NEG_INFINITY; dim], vectors: 0 }
    }

    /// The number of vectors so far.
    pub(crate) fn vectors(&self) -> u64 {
        self.vectors
    }

    /// Measures a vector.
    ///
    /// # Panics
    /// If the vector has another length.
    pub(crate) fn add(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.min.len(), "vectors of one length");
        for ((min, max), &value) in self.min.iter_mut().zip(&mut self.max).zip(vector) {
            (*min, *max) = (min.min(value), max.max(value));
        }
        self.vectors += 1;
    }

    /// The content of the calibration file; `made_by` is the provenance of the vectors.
    ///
    /// # Errors
    /// If there were fewer than two vectors.
    pub(crate) fn into_file(self, made_by: BTreeMap<String, String>) -> Result<RangesFile, String> {
        if self.vectors < 2 {
            return Err(format!("found {} vectors; expected at least 2, better some thousands", self.vectors));
        }
        let Calibration { min, max, vectors } = self;
        Ok(RangesFile { format_version: RANGES_VERSION, vectors, min, max, made_by })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranges::{Ranges, RangesConfig};
    use super::*;

    #[test]
    fn a_calibration_file_fits_only_its_vectors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ranges.json");
        let mut calibration = Calibration::new(2);
        calibration.add(&[0.1, -3.0]);
        assert!(
            calibration
                .clone()
                .into_file(Default::default())
                .is_err_and(|message| message.starts_with("found 1 vectors"))
        );
        calibration.add(&[-0.25, 7.0]);
        let made_by = [("weights_sha256", "abc"), ("dim", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let file = calibration.into_file(made_by.clone().into_iter().collect()).expect("two vectors");
        std::fs::write(&path, serde_json::to_string(&file).expect("JSON")).expect("a file");
        let read = |made_by: &[(String, String)], dim| {
            let ranges = Ranges::read(&RangesConfig::File(path.clone()), dim, made_by);
            ranges.map_err(|error| error.message)
        };
        assert_eq!(read(&made_by, 2), Ranges::new(vec![-0.25, -3.0], vec![0.1, 7.0]));
        assert_eq!(read(&made_by, 3), Err("found ranges for vectors of 2 values; expected 3".into()));
        let other = read(&made_by[1..], 2).expect_err("other weights");
        assert!(other.starts_with("made for other vectors: found `weights_sha256` abc; expected none"), "{other}");
        std::fs::write(&path, "[1]").expect("a file");
        assert!(read(&made_by, 2).is_err_and(|message| message.starts_with("not a calibration file (")));
        // A later version is named before anything else of it is read; a field of this version may be new.
        std::fs::write(&path, r#"{"format_version": 2, "shape": "new"}"#).expect("a file");
        assert!(read(&[], 1).is_err_and(|message| message.starts_with("found format_version 2; expected at most 1")));
        let more =
            serde_json::json!({"format_version": 1, "vectors": 2, "min": [0.0], "max": [1.0], "made_by": {}, "new": 1});
        std::fs::write(&path, more.to_string()).expect("a file");
        assert!(read(&[], 1).is_ok());
        let broken = serde_json::json!({"format_version": 1, "vectors": 2, "min": [1.0], "max": [0.0], "made_by": {}});
        std::fs::write(&path, broken.to_string()).expect("a file");
        assert_eq!(read(&[], 1), Err("value 0: found 1 to 0; expected finite numbers, ascending".into()));
    }
}

//! Vectors in, smaller vectors out: whole numbers of 8 bits, or a bit a value, as sentence-transformers'
//! `quantize_embeddings` makes them.
//!
//! 8 bits need to know between which numbers each value lies: the ranges. sentence-transformers takes them from the vectors
//! that it is given, all at once; in a stream they have to be fixed before, in the pipeline file or by a calibration file.
//! What lies outside is clipped. Pure: files are read by [`Ranges::read`] and nowhere else.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::enum_names::enum_names;
use crate::matrix::Matrix;

/// `output.precision`: what a vector's values are written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputPrecision {
    #[default]
    Float32,
    /// −128 to 127, one a value.
    Int8,
    /// 0 to 255, one a value.
    Uint8,
    /// A bit a value, whether it is over 0: eight to a byte, the first in the highest bit, less 128.
    Binary,
    /// The same, as bytes from 0 to 255.
    Ubinary,
}

enum_names!(
    OutputPrecision,
    "output precision",
    Float32 = "float32",
    Int8 = "int8",
    Uint8 = "uint8",
    Binary = "binary",
    Ubinary = "ubinary"
);

impl OutputPrecision {
    pub fn needs_ranges(self) -> bool {
        matches!(self, OutputPrecision::Int8 | OutputPrecision::Uint8)
    }

    pub fn is_bits(self) -> bool {
        matches!(self, OutputPrecision::Binary | OutputPrecision::Ubinary)
    }

    /// Whether the numbers have a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, OutputPrecision::Int8 | OutputPrecision::Binary)
    }

    /// Numbers of a written vector of `dim` values.
    pub fn width(self, dim: usize) -> usize {
        if self.is_bits() { dim.div_ceil(8) } else { dim }
    }
}

/// `output.ranges`: between which numbers vectors' values lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the path of a file that `embedmill calibrate` made, or [LEAST, MOST]")]
pub enum RangesConfig {
    /// The same for every value of a vector.
    Same([f32; 2]),
    /// A file that `embedmill calibrate` made.
    File(PathBuf),
}

/// What is wrong with the precision and ranges that were asked for, by key.
pub fn check(precision: OutputPrecision, ranges: Option<&RangesConfig>) -> Result<(), (&'static str, String)> {
    match (precision.needs_ranges(), ranges) {
        (true, None) => {
            let message = format!(
                "is missing; {precision} needs to know between which numbers the values lie: a file that \
                 `embedmill calibrate` makes of a part of the input, or [LEAST, MOST]"
            );
            Err(("output.ranges", message))
        }
        (false, Some(_)) => {
            Err(("output.ranges", format!("is given, but output.precision {precision} has no use for it")))
        }
        (_, Some(RangesConfig::Same([least, most]))) if !(least.is_finite() && most.is_finite() && least < most) => {
            Err(("output.ranges", format!("is [{least}, {most}]; expected two numbers, the smaller one first")))
        }
        _ => Ok(()),
    }
}

/// Between which numbers each value of a vector lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    least: Vec<f32>,
    most: Vec<f32>,
}

/// A calibration file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangesFile {
    pub format_version: u32,
    /// How many vectors were looked at.
    pub vectors: u64,
    pub min: Vec<f32>,
    pub max: Vec<f32>,
    /// What made the vectors, as the output's metadata has it.
    pub made_by: std::collections::BTreeMap<String, String>,
}

/// Changes with the meaning of the file.
const RANGES_VERSION: u32 = 1;
/// Two numbers for each of 65,536 values take some megabytes; a larger file is something else.
const RANGES_BYTES_MAX: u64 = 16 << 20;
/// What of the vectors' making has to be the same for their ranges to mean the same.
const SAME_VECTORS: [&str; 8] =
    ["backend", "weights_sha256", "modules_sha256", "modules", "dim", "dense", "truncate_dim", "route"];

#[derive(Debug, thiserror::Error)]
#[error("output.ranges: {}: {message}", path.display())]
pub struct RangesError {
    pub path: PathBuf,
    pub message: String,
}

impl Ranges {
    pub fn new(least: Vec<f32>, most: Vec<f32>) -> Result<Ranges, String> {
        if least.len() != most.len() || least.is_empty() {
            return Err(format!("`min` has {} numbers and `max` {}", least.len(), most.len()));
        }
        let odd =
            least.iter().zip(&most).position(|(least, most)| !(least.is_finite() && most.is_finite() && least <= most));
        match odd {
            Some(index) => {
                Err(format!("value {index} lies between {} and {}, which is no range", least[index], most[index]))
            }
            None => Ok(Ranges { least, most }),
        }
    }

    pub fn dim(&self) -> usize {
        self.least.len()
    }

    /// The ranges for vectors of `dim` values that are made as `provenance` says.
    pub fn read(config: &RangesConfig, dim: usize, provenance: &[(String, String)]) -> Result<Ranges, RangesError> {
        let path = match config {
            RangesConfig::Same([least, most]) => {
                return Ok(Ranges { least: vec![*least; dim], most: vec![*most; dim] });
            }
            RangesConfig::File(path) => path,
        };
        let refuse = |message: String| RangesError { path: path.clone(), message };
        let (ranges, file) = Ranges::open(path)?;
        let known = |key: &str| provenance.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        for key in SAME_VECTORS {
            let (then, now) = (file.made_by.get(key).map(String::as_str), known(key));
            if then != now {
                let shown = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
                return Err(refuse(format!(
                    "was made with other vectors: `{key}` was {}, here it is {}; make it again with `embedmill calibrate`",
                    shown(then),
                    shown(now)
                )));
            }
        }
        if ranges.dim() != dim {
            return Err(refuse(format!("is for vectors of {} values, these have {dim}", ranges.dim())));
        }
        Ok(ranges)
    }

    /// A calibration file as it is.
    pub fn open(path: &Path) -> Result<(Ranges, RangesFile), RangesError> {
        let refuse = |message: String| RangesError { path: path.to_owned(), message };
        let unreadable = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
        if std::fs::metadata(path).map_err(unreadable)?.len() > RANGES_BYTES_MAX {
            return Err(refuse(format!("is larger than {RANGES_BYTES_MAX} bytes; this is no calibration file")));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let file: RangesFile =
            serde_json::from_slice(&bytes).map_err(|error| refuse(format!("is no calibration file: {error}")))?;
        if file.format_version != RANGES_VERSION {
            let message = format!("is of format {}, this version reads {RANGES_VERSION}", file.format_version);
            return Err(refuse(message));
        }
        let ranges = Ranges::new(file.min.clone(), file.max.clone()).map_err(refuse)?;
        Ok((ranges, file))
    }

    /// The range of every value, where it is one.
    fn same(&self) -> Option<[f32; 2]> {
        let (least, most) = (*self.least.first()?, *self.most.first()?);
        let same = self.least.iter().all(|other| *other == least) && self.most.iter().all(|other| *other == most);
        same.then_some([least, most])
    }

    /// Tells ranges apart.
    pub fn sha256(&self) -> String {
        let bytes: Vec<u8> = self.least.iter().chain(&self.most).flat_map(|value| value.to_le_bytes()).collect();
        hex(&Sha256::digest(&bytes))
    }

    /// The step between two neighbouring numbers of 8 bits. A value that is always the same has no range; any step does.
    fn step(&self, column: usize) -> f32 {
        let step = (self.most[column] - self.least[column]) / 255.0;
        if step == 0.0 { 1.0 } else { step }
    }
}

/// The smallest and largest of each value so far.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    least: Vec<f32>,
    most: Vec<f32>,
    vectors: u64,
}

impl Calibration {
    pub fn new(dim: usize) -> Calibration {
        Calibration { least: vec![f32::INFINITY; dim], most: vec![f32::NEG_INFINITY; dim], vectors: 0 }
    }

    pub fn vectors(&self) -> u64 {
        self.vectors
    }

    /// # Panics
    /// If the vector has another length.
    pub fn add(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.least.len(), "vectors of one length");
        for ((least, most), &value) in self.least.iter_mut().zip(&mut self.most).zip(vector) {
            (*least, *most) = (least.min(value), most.max(value));
        }
        self.vectors += 1;
    }

    /// # Errors
    /// If there were fewer than two vectors, which have no range.
    pub fn into_file(self, made_by: std::collections::BTreeMap<String, String>) -> Result<RangesFile, String> {
        if self.vectors < 2 {
            return Err(format!("{} vectors have no ranges; give at least 2, better some thousands", self.vectors));
        }
        let Calibration { least: min, most: max, vectors } = self;
        Ok(RangesFile { format_version: RANGES_VERSION, vectors, min, max, made_by })
    }
}

/// Turns vectors into what is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    precision: OutputPrecision,
    ranges: Option<Ranges>,
}

/// Vectors as they are written, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantized {
    Float32(Vec<f32>),
    Int8(Vec<i8>),
    Uint8(Vec<u8>),
}

impl Quantizer {
    pub fn float32() -> Quantizer {
        Quantizer { precision: OutputPrecision::Float32, ranges: None }
    }

    /// # Errors
    /// If the precision needs ranges and there are none.
    pub fn new(precision: OutputPrecision, ranges: Option<Ranges>) -> Result<Quantizer, String> {
        match (precision.needs_ranges(), ranges) {
            (true, None) => Err(format!("{precision} needs ranges")),
            (true, ranges) => Ok(Quantizer { precision, ranges }),
            (false, _) => Ok(Quantizer { precision, ranges: None }),
        }
    }

    pub fn precision(&self) -> OutputPrecision {
        self.precision
    }

    /// For the output's metadata: what says how the numbers came about.
    pub fn provenance(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("output_precision".to_owned(), self.precision.to_string())];
        if let Some(ranges) = &self.ranges {
            pairs.push(("ranges_sha256".to_owned(), ranges.sha256()));
            pairs.extend(ranges.same().map(|[least, most]| ("ranges".to_owned(), format!("[{least}, {most}]"))));
        }
        pairs
    }

    /// All rows, as they are written.
    pub fn apply(&self, vectors: Matrix) -> Quantized {
        match (self.precision, &self.ranges) {
            (OutputPrecision::Int8, Some(ranges)) => {
                let bytes = eight_bits(&vectors, ranges);
                // −128 in steps of one is the same bits as flipping the highest.
                Quantized::Int8(bytes.into_iter().map(signed).collect())
            }
            (OutputPrecision::Uint8, Some(ranges)) => Quantized::Uint8(eight_bits(&vectors, ranges)),
            (OutputPrecision::Binary, _) => Quantized::Int8(bits(&vectors).into_iter().map(signed).collect()),
            (OutputPrecision::Ubinary, _) => Quantized::Uint8(bits(&vectors)),
            _ => Quantized::Float32(vectors.into_values()),
        }
    }

    /// About the vector that `written` was made of, for `search`: of 8 bits the lower end of each step, of bits 1 and −1.
    pub fn restore(&self, written: &[u8], dim: usize) -> Vec<f32> {
        match &self.ranges {
            Some(ranges) => written
                .iter()
                .enumerate()
                .map(|(column, &byte)| f32::from(byte) * ranges.step(column) + ranges.least[column])
                .collect(),
            None => (0..dim)
                .map(|column| if written[column / 8] & (0x80 >> (column % 8)) == 0 { -1.0 } else { 1.0 })
                .collect(),
        }
    }
}

/// A byte less 128.
fn signed(byte: u8) -> i8 {
    (byte ^ 0x80).cast_signed()
}

/// The byte that is 128 more.
pub fn unsigned(number: i8) -> u8 {
    number.cast_unsigned() ^ 0x80
}

/// floor((x − least) / step), clipped to 0 … 255.
fn eight_bits(vectors: &Matrix, ranges: &Ranges) -> Vec<u8> {
    let steps: Vec<f32> = (0..ranges.dim()).map(|column| ranges.step(column)).collect();
    let mut bytes = Vec::with_capacity(vectors.rows() * vectors.dim());
    for row in 0..vectors.rows() {
        let values = vectors.row(row).iter().zip(&ranges.least).zip(&steps);
        bytes.extend(values.map(|((value, least), step)| ((value - least) / step).floor().clamp(0.0, 255.0) as u8));
    }
    bytes
}

/// Whether each value is over 0, the first of eight in the highest bit; the last byte is filled up with zeros.
fn bits(vectors: &Matrix) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vectors.rows() * vectors.dim().div_ceil(8));
    for row in 0..vectors.rows() {
        for eight in vectors.row(row).chunks(8) {
            let bit = |(index, value): (usize, &f32)| if *value > 0.0 { 0x80 >> index } else { 0u8 };
            bytes.push(eight.iter().enumerate().map(bit).sum());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(dim: usize, values: &[f32]) -> Matrix {
        Matrix::new(dim, values.to_vec())
    }

    fn apply(precision: OutputPrecision, vectors: Matrix) -> Quantized {
        let ranges = Ranges::new(vec![-1.0, 0.0, 2.0], vec![1.0, 0.0, 4.55]).expect("ranges");
        Quantizer::new(precision, Some(ranges)).expect("it has ranges").apply(vectors)
    }

    #[test]
    fn values_become_steps_of_their_range_and_are_clipped() {
        let vectors = || matrix(3, &[-1.0, 0.0, 2.0, 1.0, 0.5, 4.55, -9.0, 3.7, 99.0, 0.0, -0.5, 2.025]);
        // The most of a range is 255 steps above its least, but for rounding: numpy's 254 as well.
        let bytes = [0, 0, 0, 254, 0, 255, 0, 3, 255, 127, 0, 2];
        assert_eq!(apply(OutputPrecision::Uint8, vectors()), Quantized::Uint8(bytes.into()));
        let signed = bytes.map(|byte: u8| (i16::from(byte) - 128) as i8);
        assert_eq!(apply(OutputPrecision::Int8, vectors()), Quantized::Int8(signed.into()));
    }

    #[test]
    fn bits_are_packed_from_the_highest() {
        let mut values = [-1.0f32; 10];
        (values[0], values[7], values[9], values[1]) = (1.0, 0.1, 2.0, 0.0);
        let quantizer = |precision| Quantizer::new(precision, None).expect("no ranges are needed");
        let found = quantizer(OutputPrecision::Ubinary).apply(matrix(10, &values));
        assert_eq!(found, Quantized::Uint8(vec![0b1000_0001, 0b0100_0000]));
        let found = quantizer(OutputPrecision::Binary).apply(matrix(10, &values));
        assert_eq!(found, Quantized::Int8(vec![1, -64]));
        let restored = quantizer(OutputPrecision::Ubinary).restore(&[0b1000_0001, 0b0100_0000], 10);
        assert_eq!(restored, [1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, -1.0, 1.0]);
        assert_eq!([-128i8, -1, 0, 127].map(unsigned), [0, 127, 128, 255]);
    }

    #[test]
    fn a_calibration_file_is_held_to_the_vectors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ranges.json");
        let mut calibration = Calibration::new(2);
        calibration.add(&[0.1, -3.0]);
        assert!(
            calibration.clone().into_file(Default::default()).is_err_and(|message| message.starts_with("1 vectors"))
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
        assert_eq!(read(&made_by, 3), Err("is for vectors of 2 values, these have 3".into()));
        let other = read(&made_by[1..], 2).expect_err("other weights");
        assert!(
            other.starts_with("was made with other vectors: `weights_sha256` was abc, here it is nothing"),
            "{other}"
        );
        std::fs::write(&path, "[1]").expect("a file");
        assert!(read(&made_by, 2).is_err_and(|message| message.starts_with("is no calibration file: ")));
        let broken = serde_json::json!({"format_version": 1, "vectors": 2, "min": [1.0], "max": [0.0], "made_by": {}});
        std::fs::write(&path, broken.to_string()).expect("a file");
        assert_eq!(read(&[], 1), Err("value 0 lies between 1 and 0, which is no range".into()));
    }

    #[test]
    fn contradictions_are_refused_by_key() {
        let same = |least, most| Some(RangesConfig::Same([least, most]));
        let check =
            |precision, ranges: Option<RangesConfig>| check(precision, ranges.as_ref()).map_err(|(_, message)| message);
        assert_eq!(check(OutputPrecision::Int8, same(-0.5, 0.5)), Ok(()));
        assert_eq!(check(OutputPrecision::Binary, None), Ok(()));
        assert!(check(OutputPrecision::Uint8, None).is_err_and(|message| message.contains("embedmill calibrate")));
        assert!(check(OutputPrecision::Float32, same(0.0, 1.0)).is_err_and(|message| message.contains("no use")));
        assert!(
            check(OutputPrecision::Int8, same(1.0, 1.0)).is_err_and(|message| message.contains("smaller one first"))
        );
    }
}

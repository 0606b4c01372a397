//! Quantizes vectors to the numbers that are written, and restores vectors from them.

use super::precision::OutputPrecision;
use super::ranges::Ranges;
use crate::matrix::Matrix;

/// Quantizes vectors to a precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    precision: OutputPrecision,
    ranges: Option<Ranges>,
}

/// The numbers of written vectors, row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantized {
    /// Of float32.
    Float32(Vec<f32>),
    /// Of int8 and binary.
    Int8(Vec<i8>),
    /// Of uint8 and ubinary.
    Uint8(Vec<u8>),
}

impl Quantizer {
    /// Leaves vectors unchanged.
    pub fn float32() -> Quantizer {
        Quantizer { precision: OutputPrecision::Float32, ranges: None }
    }

    /// Quantizes to `precision`; `ranges` are used only by precisions that need them.
    ///
    /// # Errors
    /// If the precision needs ranges and `ranges` is `None`.
    pub fn new(precision: OutputPrecision, ranges: Option<Ranges>) -> Result<Quantizer, String> {
        match (precision.needs_ranges(), ranges) {
            (true, None) => Err(format!("missing; {precision} needs ranges")),
            (true, ranges) => Ok(Quantizer { precision, ranges }),
            (false, _) => Ok(Quantizer { precision, ranges: None }),
        }
    }

    /// The precision of the written numbers.
    pub fn precision(&self) -> OutputPrecision {
        self.precision
    }

    /// How vectors are quantized, for the metadata of the output.
    pub fn provenance(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("output_precision".to_owned(), self.precision.to_string())];
        if let Some(ranges) = &self.ranges {
            pairs.push(("ranges_sha256".to_owned(), ranges.sha256()));
            pairs.extend(ranges.same().map(|[min, max]| ("ranges".to_owned(), format!("[{min}, {max}]"))));
        }
        pairs
    }

    /// Quantizes all rows, `[rows, dim]`, to `[rows, precision.width(dim)]` numbers.
    pub fn apply(&self, vectors: Matrix) -> Quantized {
        match (self.precision, &self.ranges) {
            (OutputPrecision::Int8, Some(ranges)) => {
                let bytes = eight_bits(&vectors, ranges);
                // Subtracting 128 is the same as flipping the highest bit.
                Quantized::Int8(bytes.into_iter().map(signed).collect())
            }
            (OutputPrecision::Uint8, Some(ranges)) => Quantized::Uint8(eight_bits(&vectors, ranges)),
            (OutputPrecision::Binary, _) => Quantized::Int8(bits(&vectors).into_iter().map(signed).collect()),
            (OutputPrecision::Ubinary, _) => Quantized::Uint8(bits(&vectors)),
            _ => Quantized::Float32(vectors.into_values()),
        }
    }

    /// An approximation of the vector of `dim` values that was written as `written`, for `search`: the lower end of
    /// each step for 8-bit integers, 1 or −1 for bits.
    pub fn restore(&self, written: &[u8], dim: usize) -> Vec<f32> {
        match &self.ranges {
            Some(ranges) => written
                .iter()
                .enumerate()
                .map(|(column, &byte)| f32::from(byte) * ranges.step(column) + ranges.min(column))
                .collect(),
            None => (0..dim)
                .map(|column| if written[column / 8] & (0x80 >> (column % 8)) == 0 { -1.0 } else { 1.0 })
                .collect(),
        }
    }
}

/// The byte minus 128.
fn signed(byte: u8) -> i8 {
    (byte ^ 0x80).cast_signed()
}

/// The number plus 128.
pub(crate) fn unsigned(number: i8) -> u8 {
    number.cast_unsigned() ^ 0x80
}

/// `floor((x − min) / step)`, clipped to 0 … 255, as in `quantize_embeddings` of sentence-transformers.
/// `[rows, dim]` → `[rows, dim]` bytes.
fn eight_bits(vectors: &Matrix, ranges: &Ranges) -> Vec<u8> {
    let steps: Vec<f32> = (0..ranges.dim()).map(|column| ranges.step(column)).collect();
    let mut bytes = Vec::with_capacity(vectors.rows() * vectors.dim());
    for row in 0..vectors.rows() {
        let values = vectors.row(row).iter().zip(ranges.minima()).zip(&steps);
        bytes.extend(values.map(|((value, min), step)| ((value - min) / step).floor().clamp(0.0, 255.0) as u8));
    }
    bytes
}

/// One bit per value, set if the value is above 0; the first of eight values is in the highest bit, and the last byte
/// is padded with zeros, as `numpy.packbits` does. `[rows, dim]` → `[rows, ceil(dim / 8)]` bytes.
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
        // The maximum of a range is 255 steps above its minimum, or 254 by rounding, as with numpy.
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
}

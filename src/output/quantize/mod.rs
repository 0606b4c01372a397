//! Quantization: vectors of float32 to 8-bit integers, or to one bit per value.
//!
//! The arithmetic is that of `quantize_embeddings` in sentence-transformers. int8 and uint8 need the range of each
//! value, which that function takes from the vectors it is given, all at once. A stream needs the ranges before its
//! first vector, so they come from the pipeline file or from a calibration file; values outside them are clipped.
//!
//! - `precision` is the type of the written numbers, `ranges` the ranges of int8 and uint8
//! - `calibration` measures ranges, `quantizer` applies them

mod calibration;
mod precision;
mod quantizer;
mod ranges;

pub(crate) use calibration::Calibration;
pub use precision::OutputPrecision;
pub(crate) use quantizer::unsigned;
pub use quantizer::{Quantized, Quantizer};
pub use ranges::Ranges;
pub(crate) use ranges::{RangesConfig, RangesError, check};

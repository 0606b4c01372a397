//! `output.precision`: the type of the numbers that vectors are written as.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enum_names::enum_names;

/// `output.precision`: how the values of a vector are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputPrecision {
    /// Unchanged.
    #[default]
    Float32,
    /// One integer from −128 to 127 per value.
    Int8,
    /// One integer from 0 to 255 per value.
    Uint8,
    /// One bit per value, set if the value is above 0: eight bits per byte, the first value in the highest bit, less
    /// 128.
    Binary,
    /// As `binary`, as bytes from 0 to 255.
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
    /// Whether the range of each value must be known.
    pub fn needs_ranges(self) -> bool {
        matches!(self, OutputPrecision::Int8 | OutputPrecision::Uint8)
    }

    /// Whether a value is one bit.
    pub fn is_bits(self) -> bool {
        matches!(self, OutputPrecision::Binary | OutputPrecision::Ubinary)
    }

    /// Whether the written numbers are signed.
    pub fn is_signed(self) -> bool {
        matches!(self, OutputPrecision::Int8 | OutputPrecision::Binary)
    }

    /// How many numbers a vector of `dim` values is written as.
    pub fn width(self, dim: usize) -> usize {
        if self.is_bits() { dim.div_ceil(8) } else { dim }
    }
}

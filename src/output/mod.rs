//! The output: rows with their vectors, as Arrow batches.
//!
//! - `schema` is the columns and the metadata of a row, `assemble` makes a batch of a window
//! - [`quantize`] is how vectors are written
//! - [`read`] and `vectors` read output files back

mod assemble;
mod config;
pub mod quantize;
pub mod read;
mod schema;
mod vectors;

pub use assemble::Output;
pub use config::OutputConfig;
pub use schema::{FORMAT_VERSION, OWN_COLUMNS, OutputSchema};
pub use vectors::Vectors;

//! The output: rows with their vectors, as Arrow batches.
//!
//! - `schema` is the columns and the metadata of a row, `assemble` makes a batch of a window
//! - [`quantize`] is how vectors are written
//! - [`read`] and `vectors` read output files back

mod assemble;
mod config;
pub(crate) mod quantize;
pub(crate) mod read;
mod schema;
mod vectors;
mod version;

pub(crate) use assemble::Output;
pub(crate) use config::OutputConfig;
pub(crate) use schema::OWN_COLUMNS;
pub use schema::OutputSchema;
pub use vectors::Vectors;

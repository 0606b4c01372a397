//! The output: what a row looks like ([`schema`]), a window turned into one Arrow batch ([`assemble`]), vectors as they are
//! written ([`quantize`]), and output files read back ([`read`], [`vectors`]).

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

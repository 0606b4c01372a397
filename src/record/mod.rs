//! The data that flows through the pipeline: records, blocks of rows, rejections and outcomes.
//!
//! [`Records`] are consecutive records of one partition, as a source reads them. The text stages turn them into a
//! [`Block`]: the same records, the rows made from them (ids, tokens, kept columns) and the records that were rejected.
//! Rows are stored in columns, without an allocation per row, and each row refers to the record that it came from. A
//! rejected record becomes a [`DeadLetter`]; [`Settled`] counts the outcomes of a window's records.

mod block;
mod dead_letter;
mod outcome;
mod position;
mod records;
mod rejection;

pub(crate) use block::Block;
pub use dead_letter::DeadLetter;
pub use outcome::Settled;
pub(crate) use position::{Partition, Position};
pub use records::{Body, Payload};
pub(crate) use records::{Envelope, Record, Records, Timestamps};
pub(crate) use rejection::{Rejection, Stage};

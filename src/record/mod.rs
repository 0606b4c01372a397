//! What flows through the pipeline: records as a source reads them, blocks of rows ready to be encoded, and what became
//! of them.
//!
//! A [`Records`] is a run of consecutive records of one partition. The text stages turn it into a [`Block`]: the same
//! records, the rows made from them (ids, tokens, kept columns) and the records that were rejected. Rows are kept in
//! columns, never one allocation a row, and each names the record that it came from. A rejected record becomes a
//! [`DeadLetter`]; [`Settled`] counts what a window's records became.

mod block;
mod dead_letter;
mod outcome;
mod position;
mod records;
mod rejection;

pub use block::Block;
pub use dead_letter::DeadLetter;
pub use outcome::Settled;
pub use position::{Partition, Position};
pub use records::{Body, Envelope, Payload, Record, Records, Timestamps};
pub use rejection::{Rejection, Stage};

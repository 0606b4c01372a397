//! Records from files, folders, globs and standard input.
//!
//! In: [`FilesConfig`]. Out, through the outlet: the records of one input after the other, in the order of the
//! arguments, in runs of a few hundred. Kept: one input open at a time, a block of its bytes, nothing that grows with its
//! size. Fails before any data moves when an input is missing, unreadable or of an unknown compression. Later, whatever
//! cannot be cut into a record (a stream that breaks, a line over the limit) is handed on as
//! [`Payload::Unreadable`] and the other inputs go on: whether that ends the run is decided downstream.
//!
//! ```text
//! inputs: paths, globs ─► Input ─► stream: decompressed bytes ─┬─► cut: lines, CSV rows, JSON values ─► Body::Each
//!                                                              ├─► document: the whole file         ─► Body::Each
//!                                                              └─► arrow_batches, parquet_batches   ─► Body::Table
//! ```

pub(crate) mod arrow_batches;
mod arrow_messages;
mod config;
mod cut;
mod delimited;
mod document;
mod format;
mod inputs;
mod json;
mod lines;
mod open;
mod parquet_batches;
mod reader;
mod resume;
mod shard;
mod sniff;
mod source;
mod stream;
#[cfg(test)]
mod tests;

pub use config::FilesConfig;
pub use format::Format;
pub use resume::{InputFingerprints, Resume};
pub use shard::Shard;
pub use source::FileSource;

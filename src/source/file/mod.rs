//! Records from files, folders, globs and standard input.
//!
//! In: [`FilesConfig`]. Out, through the [`RecordSender`](super::RecordSender): the records of one input after the
//! other, in the order of `paths`, a few hundred at a time. Kept: one open input and one block of its bytes; nothing
//! grows with the size of the input. Fails before any data moves if an input is missing, unreadable or of an
//! unsupported compression. Later, bytes that cannot be split into a record (a broken stream, a line over the limit)
//! are handed on as [`Payload::Unreadable`](crate::record::Payload::Unreadable) and the other inputs are still read:
//! the pipeline decides whether such a record ends the run.
//!
//! ```text
//! paths, globs ─► inputs ─► stream: decompressed bytes ─┬─► lines, csv_rows, json (by splitter)    ─► Body::Each
//!                                                       ├─► document: the whole file as one record  ─► Body::Each
//!                                                       └─► arrow_batches, parquet_batches          ─► Body::Table
//! ```

pub(crate) mod arrow_batches;
mod arrow_messages;
mod config;
mod csv_rows;
mod document;
mod file_source;
mod format;
mod inputs;
mod json;
mod lines;
mod open_reader;
mod parquet_batches;
mod reader;
mod resume;
mod shard;
mod sniff;
mod splitter;
mod stream;
#[cfg(test)]
mod tests;

pub use config::FilesConfig;
pub use file_source::FileSource;
pub use format::Format;
pub(crate) use resume::{InputFingerprints, Resume};

//! Tests of pipeline files on given records: `embedmill test`.
//!
//! - [`file`] reads a test file: cases of records and expected results
//! - [`run`] runs the pipeline of a plan on records, from memory to memory, with the hash encoder
//! - [`compare`] lists the differences between a result and the expected one
//!
//! The stages are those of `embedmill run`. Source, sink and model are replaced: no file is read, no broker is
//! contacted and no model is loaded. Tokens are the hash encoder's words, and a vector has `model.truncate_dim` or
//! `model.hash_dim` values.

pub(crate) mod compare;
pub(crate) mod file;
pub(crate) mod run;

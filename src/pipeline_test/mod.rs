//! A pipeline tried on given records: what `embedmill test` does.
//!
//! - [`file`] is a test file: cases of records and what is expected of them
//! - [`run`] makes a pipeline of a plan, from memory to memory, with the hash encoder, and runs it
//! - [`compare`] says what was found that was not expected
//!
//! The stages are those of a run. In place of what is outside of it there is memory: no file is read, no broker asked, no
//! model loaded. So tokens are the hash encoder's words, and a vector is as long as `model.truncate_dim` or
//! `model.hash_dim` says.

pub mod compare;
pub mod file;
pub mod run;

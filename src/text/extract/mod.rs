//! Records in, blocks of rows out: the id, text, kept columns and tokens of each record.
//!
//! In: [`Records`](crate::record::Records). Out: one [`Block`](crate::record::Block) for them. Kept: nothing; an
//! [`Extractor`] runs on any thread, and on several at once. A record that lacks a field, or whose field has the wrong
//! type, becomes a rejection with its cause; no record fails the stream.
//!
//! - `draft` is a row before its columns are built
//! - `documents` drafts rows of JSON documents and lines of text, `tables` rows of CSV, Parquet and Arrow
//! - `json_fields` reads ids, texts and kept values of JSON fields
//! - `kept_types` infers the types of kept columns from the first records
//! - `extractor` builds blocks of drafts

mod documents;
mod draft;
mod extractor;
mod json_fields;
mod kept_types;
mod tables;

pub use extractor::Extractor;
pub(crate) use kept_types::infer_kept;

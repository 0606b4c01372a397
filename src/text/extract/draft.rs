//! A row before its columns are built, and how to get its position.

use std::borrow::Cow;

use serde_json::Value;

use crate::columnar::Table;
use crate::record::{Rejection, Stage};

/// A row before its columns are built.
pub(super) struct Draft<'a> {
    /// The index of its record in the body.
    pub record: usize,
    pub id: Cow<'a, str>,
    pub text: Cow<'a, str>,
}

/// Where the values of the kept columns come from.
pub(super) enum KeptValues<'a> {
    /// One object per draft, with the names of the kept columns as keys.
    Json(Vec<Value>),
    /// A table, and which of its rows the drafts are.
    Table(&'a Table, Vec<usize>),
}

/// Why a record is rejected.
pub(super) struct RejectCause {
    pub stage: Stage,
    pub cause: String,
}

impl RejectCause {
    /// A record that the source could not split or parse.
    pub(crate) fn read(cause: impl Into<String>) -> Self {
        RejectCause { stage: Stage::Read, cause: cause.into() }
    }

    /// A record without the wanted fields.
    pub(crate) fn extract(cause: impl Into<String>) -> Self {
        RejectCause { stage: Stage::Extract, cause: cause.into() }
    }

    /// The rejection of the record with this index.
    pub(crate) fn of(self, record: usize) -> Rejection {
        Rejection { record, stage: self.stage, cause: self.cause }
    }
}

/// The position of a record, by its index in the body; it is the id of a row where the plan names no id field.
pub(super) type PositionOf<'a> = &'a dyn Fn(usize) -> String;

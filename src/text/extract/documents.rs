//! Drafts rows of records that come one by one: JSON documents and lines of text.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::draft::{Draft, PositionOf, RejectCause};
use super::json_fields::{
    ENVELOPE_FIELDS, add_envelope, json_id, json_text, kept_values, not_utf8, with_present_fields,
};
use crate::record::Envelope;
use crate::text::field::{RecordPlan, TextPlan};
use crate::text::select_fields::select_fields;

/// What is read of a document.
#[derive(Clone, Copy)]
pub(super) struct DocumentPlan<'a> {
    pub plan: &'a RecordPlan,
    /// The top-level fields that the plan reads.
    pub top_fields: &'a [String],
}

/// A row of a document, with its kept values as an object.
pub(super) struct DraftWithKept<'a> {
    pub draft: Draft<'a>,
    pub kept: Value,
}

impl DocumentPlan<'_> {
    /// The row of a JSON document.
    pub(crate) fn json<'a>(
        self,
        record: usize,
        raw: &'a [u8],
        envelope: Option<&Envelope>,
        position: PositionOf<'_>,
    ) -> Result<DraftWithKept<'a>, RejectCause> {
        let json = std::str::from_utf8(raw).map_err(|error| RejectCause::extract(not_utf8(&error)))?;
        let mut fields = select_fields(json, self.top_fields).map_err(RejectCause::extract)?;
        add_envelope(envelope, self.top_fields, &mut fields);
        let id = match &self.plan.id {
            None => position(record),
            Some(path) => {
                json_id(path, &fields).map_err(|cause| RejectCause::extract(with_present_fields(cause, path, json)))?
            }
        };
        let text = match &self.plan.text {
            TextPlan::Fields { fields: paths, join } => {
                let mut joined = String::new();
                for (index, path) in paths.iter().enumerate() {
                    let part = json_text(path, &fields)
                        .map_err(|cause| RejectCause::extract(with_present_fields(cause, path, json)))?;
                    if index > 0 {
                        joined.push_str(join);
                    }
                    joined.push_str(part);
                }
                joined
            }
            TextPlan::Template(template) => {
                template.render(&Value::Object(fields.clone())).map_err(RejectCause::extract)?
            }
        };
        let kept = kept_values(&self.plan.keep, &fields);
        Ok(DraftWithKept { draft: Draft { record, id: id.into(), text: text.into() }, kept })
    }

    /// The row of a plain text, whose one field is called `text`.
    pub(crate) fn text<'a>(
        self,
        record: usize,
        raw: &'a [u8],
        envelope: Option<&Envelope>,
        position: PositionOf<'_>,
    ) -> Result<DraftWithKept<'a>, RejectCause> {
        let text = std::str::from_utf8(raw).map_err(|error| RejectCause::extract(not_utf8(&error)))?;
        let in_envelope = |field: &str| envelope.is_some() && ENVELOPE_FIELDS.contains(&field);
        if let Some(other) = self.top_fields.iter().find(|field| *field != "text" && !in_envelope(field)) {
            let cause = format!("field `{other}`: missing; expected `text`, the only field of plain text");
            return Err(RejectCause::extract(cause));
        }
        let content = match &self.plan.text {
            TextPlan::Fields { .. } => Cow::Borrowed(text),
            TextPlan::Template(template) => {
                template.render(&serde_json::json!({ "text": text })).map_err(RejectCause::extract)?.into()
            }
        };
        let mut fields = Map::from_iter([("text".to_string(), Value::from(text))]);
        add_envelope(envelope, self.top_fields, &mut fields);
        let kept = kept_values(&self.plan.keep, &fields);
        let id = match &self.plan.id {
            None => position(record),
            Some(path) => json_id(path, &fields).map_err(RejectCause::extract)?,
        };
        Ok(DraftWithKept { draft: Draft { record, id: id.into(), text: content }, kept })
    }
}

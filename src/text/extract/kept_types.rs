//! Infers the types of kept columns from the first records of the source.

use serde_json::Value;

use super::json_fields::kept_values;
use super::tables::csv_table;
use crate::columnar::kept::{KeptSchema, TypeSample};
use crate::record::{Body, Payload};
use crate::text::field::RecordPlan;
use crate::text::select_fields::select_fields;

/// The kept columns, with their types from the plan or from the first records of the source.
///
/// # Errors
/// As [`KeptSchema::infer`].
pub(crate) fn infer_kept(plan: &RecordPlan, first: Option<&Body>) -> Result<KeptSchema, String> {
    let top_fields = plan.top_fields();
    match first {
        None | Some(Body::Batch(_)) => KeptSchema::infer(&plan.keep, TypeSample::Empty),
        Some(Body::Table { table, .. }) => KeptSchema::infer(&plan.keep, TypeSample::Typed(table)),
        Some(Body::Each(each)) => {
            if let Some(csv) = csv_table(each, &top_fields, &mut Vec::new()) {
                return KeptSchema::infer(&plan.keep, TypeSample::Strings(&csv.table));
            }
            let rows = each.iter().filter_map(|record| match &record.payload {
                Payload::Json(raw) => {
                    let fields = select_fields(std::str::from_utf8(raw).ok()?, &top_fields).ok()?;
                    Some(kept_values(&plan.keep, &fields))
                }
                Payload::Text(_) => {
                    let kept = plan.keep.iter().filter(|kept| kept.path == ["text"]);
                    Some(Value::Object(kept.map(|kept| (kept.name.clone(), Value::from(""))).collect()))
                }
                _ => None,
            });
            let rows: Vec<Value> = rows.collect();
            KeptSchema::infer(&plan.keep, TypeSample::Json(&rows))
        }
    }
}

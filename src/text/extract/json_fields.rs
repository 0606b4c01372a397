//! Reads ids, texts and kept values of JSON fields.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::columnar::kept::KeptField;
use crate::record::Envelope;
use crate::text::field::FieldPath;

/// The fields that a message has besides its value: `$key`, `$timestamp` (milliseconds since 1970) and `$headers`.
pub(super) const ENVELOPE_FIELDS: [&str; 3] = ["$key", "$timestamp", "$headers"];

/// The id at `path`: a string, or a whole number as it is written.
///
/// # Errors
/// If the field is missing or has another type.
pub(super) fn json_id(path: &FieldPath, fields: &Map<String, Value>) -> Result<String, String> {
    match path.find(fields) {
        Some(Value::String(id)) => Ok(id.clone()),
        // The parser has rounded a number with a fraction or with more digits, so it cannot identify a record.
        Some(Value::Number(id)) if id.is_f64() => Err(format!(
            "field `{path}`: found {id}; expected a string or a whole number of 64 bits as id (write it as a string)"
        )),
        Some(Value::Number(id)) => Ok(id.to_string()),
        Some(other) => Err(format!("field `{path}`: found {}; expected a string or a number as id", shown(other))),
        None => Err(format!("field `{path}`: missing; expected the id")),
    }
}

/// The text at `path`.
///
/// # Errors
/// If the field is missing or is not a string.
pub(super) fn json_text<'a>(path: &FieldPath, fields: &'a Map<String, Value>) -> Result<&'a str, String> {
    match path.find(fields) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field `{path}`: found {}; expected a string", shown(other))),
        None => Err(format!("field `{path}`: missing; expected a string")),
    }
}

/// The values of the kept fields that the record has, under the names of their columns.
pub(super) fn kept_values(keep: &[KeptField], fields: &Map<String, Value>) -> Value {
    let values = keep.iter().filter_map(|kept| {
        let (top, rest) = kept.path.split_first()?;
        let value = rest.iter().try_fold(fields.get(top)?, |value, name| value.get(name))?;
        Some((kept.name.clone(), value.clone()))
    });
    Value::Object(values.collect())
}

/// Adds the `wanted` fields of the message's envelope to those of its value. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn add_envelope(envelope: Option<&Envelope>, wanted: &[String], fields: &mut Map<String, Value>) {
    let Some(envelope) = envelope else { return };
    let text = |bytes: &Bytes| Value::from(String::from_utf8_lossy(bytes));
    for field in ENVELOPE_FIELDS.into_iter().filter(|field| wanted.iter().any(|name| name == field)) {
        let value = match field {
            "$key" => envelope.key.as_ref().map_or(Value::Null, text),
            "$timestamp" => envelope.timestamp_ms.map_or(Value::Null, Value::from),
            _ => {
                let headers = envelope.headers.iter();
                let header =
                    |(name, value): &(String, Option<Bytes>)| (name.clone(), value.as_ref().map_or(Value::Null, text));
                Value::Object(headers.map(header).collect())
            }
        };
        fields.insert(field.into(), value);
    }
}

/// Adds to the error about a missing field which fields the record has. Only then is the whole record parsed.
pub(super) fn with_present_fields(cause: String, path: &FieldPath, json: &str) -> String {
    let Ok(Value::Object(all)) = serde_json::from_str(json) else { return cause };
    if path.find(&all).is_some() {
        return cause;
    }
    let mut names: Vec<String> = all.keys().take(20).map(|name| format!("`{name}`")).collect();
    if all.len() > names.len() {
        names.push(format!("and {} more", all.len() - names.len()));
    }
    format!("{cause} (the record has {})", if names.is_empty() { "no fields".into() } else { names.join(", ") })
}

/// The error of bytes that are not UTF-8.
pub(super) fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!("not UTF-8: found an invalid byte at {}; expected UTF-8 (convert the input)", error.valid_up_to() + 1)
}

/// A value as an error shows it: scalars with their value, others by their type.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

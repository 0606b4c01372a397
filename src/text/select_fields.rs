//! Parses the wanted fields of a JSON record and skips all others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The `wanted` top-level fields of the JSON object `json`. All other fields are skipped, so no memory is allocated for
/// them.
///
/// # Errors
/// If `json` is not one JSON object.
pub(crate) fn select_fields(json: &str, wanted: &[String]) -> Result<Map<String, Value>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let without_line = |error: serde_json::Error| {
        let text = error.to_string();
        // A record is one line, so serde_json's line number would only confuse.
        format!("not a JSON object: {}", text.replace(" at line 1 column ", " at column "))
    };
    let fields = FieldSelector { wanted }.deserialize(&mut deserializer).map_err(without_line)?;
    deserializer.end().map_err(without_line)?;
    Ok(fields)
}

struct FieldSelector<'a> {
    wanted: &'a [String],
}

impl<'de> DeserializeSeed<'de> for FieldSelector<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldSelector<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = access.next_key::<Cow<'de, str>>()? {
            if self.wanted.iter().any(|name| *name == key) {
                fields.insert(key.into_owned(), access.next_value()?);
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

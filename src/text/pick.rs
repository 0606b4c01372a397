//! The wanted fields of a JSON record, without building the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The wanted top-level fields of a JSON object; all others are skipped without being built.
pub fn pick(json: &str, wanted: &[String]) -> Result<Map<String, Value>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let plain = |error: serde_json::Error| {
        let text = error.to_string();
        // A record is one line, so the error's line says nothing.
        format!("not a JSON object: {}", text.replace(" at line 1 column ", " at column "))
    };
    let picked = Picker { wanted }.deserialize(&mut deserializer).map_err(plain)?;
    deserializer.end().map_err(plain)?;
    Ok(picked)
}

struct Picker<'a> {
    wanted: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Picker<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Picker<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut picked = Map::new();
        while let Some(key) = access.next_key::<Cow<'de, str>>()? {
            if self.wanted.iter().any(|name| *name == key) {
                picked.insert(key.into_owned(), access.next_value()?);
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(picked)
    }
}

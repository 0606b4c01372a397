//! Keys of the pipeline file: the line of each key in a YAML text, and keys that the schema does not know.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};
use serde_json::Value;

/// The line of each key of a YAML text, counted from 1, by dotted path. Items of lists have the keys `0`, `1`, ….
pub(crate) fn lines(yaml: &str) -> BTreeMap<String, usize> {
    /// What the parser expects next inside an open map or list.
    enum Level {
        /// A key of a map.
        Key,
        /// The value of this key of a map.
        Value(String),
        /// The item of a list with this index.
        Item(usize),
    }
    let mut lines = BTreeMap::new();
    let mut levels: Vec<(String, Level)> = Vec::new();
    // Returns the path of the next node, and advances its parent past it.
    let next_path = |levels: &mut Vec<(String, Level)>| -> String {
        match levels.last_mut() {
            None => String::new(),
            Some((path, level)) => {
                let name = match level {
                    Level::Value(name) => std::mem::take(name),
                    Level::Item(count) => {
                        *count += 1;
                        (*count - 1).to_string()
                    }
                    Level::Key => String::new(),
                };
                if let Level::Value(_) = level {
                    *level = Level::Key;
                }
                if path.is_empty() { name } else { format!("{path}.{name}") }
            }
        }
    };
    for event in Parser::new_from_str(yaml) {
        // Mistakes in the YAML are reported by the code that loads the file.
        let Ok((event, span)) = event else { break };
        match event {
            Event::Scalar(text, ..) => {
                if let Some((path, level @ Level::Key)) = levels.last_mut() {
                    let key = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
                    lines.insert(key, span.start.line());
                    *level = Level::Value(text.to_string());
                } else {
                    lines.entry(next_path(&mut levels)).or_insert(span.start.line());
                }
            }
            Event::Alias(_) => drop(next_path(&mut levels)),
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let path = next_path(&mut levels);
                lines.entry(path.clone()).or_insert(span.start.line());
                let level = if matches!(event, Event::MappingStart(..)) { Level::Key } else { Level::Item(0) };
                levels.push((path, level));
            }
            Event::MappingEnd | Event::SequenceEnd => drop(levels.pop()),
            _ => {}
        }
    }
    lines
}

/// A key that the schema does not know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownKey {
    /// The dotted path of the key.
    pub path: String,
    /// The most similar known key of the same section, if any is similar.
    pub nearest: Option<String>,
    /// All known keys of the same section.
    pub known: Vec<String>,
}

/// All keys of `value` that `schema` does not know.
pub(crate) fn unknown(value: &Value, schema: &Value) -> Vec<UnknownKey> {
    let mut found = Vec::new();
    walk(value, schema, schema, "", &mut found);
    found
}

fn walk(value: &Value, node: &Value, root: &Value, path: &str, found: &mut Vec<UnknownKey>) {
    let at = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            let Some(properties) = object_schema(node, root) else { return };
            for (name, value) in fields {
                match properties.get(name) {
                    Some(node) => walk(value, node, root, &at(name), found),
                    None => {
                        let known: Vec<String> = properties.keys().cloned().collect();
                        found.push(UnknownKey { path: at(name), nearest: nearest(name, &known), known });
                    }
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = variants(node, root).into_iter().find_map(|node| node.get("items")) else { return };
            for (index, item) in items.iter().enumerate() {
                walk(item, node, root, &at(&index.to_string()), found);
            }
        }
        _ => {}
    }
}

/// The strings that the schema allows at a dotted path; empty if it does not list any.
pub(crate) fn allowed_values(path: &str, schema: &Value) -> Vec<String> {
    let mut nodes = vec![schema];
    for name in path.split('.') {
        let inner = nodes.into_iter().flat_map(|node| variants(node, schema)).filter_map(|node| {
            node.get("properties").and_then(|properties| properties.get(name)).or_else(|| node.get("items"))
        });
        nodes = inner.collect();
    }
    let mut allowed: Vec<String> = Vec::new();
    for node in nodes.into_iter().flat_map(|node| variants(node, schema)) {
        let several = node.get("enum").and_then(Value::as_array).into_iter().flatten();
        let found = several.chain(node.get("const")).filter_map(Value::as_str);
        for value in found {
            if !allowed.iter().any(|known| known == value) {
                allowed.push(value.into());
            }
        }
    }
    allowed
}

/// The properties of the first alternative of `node` that is an object.
fn object_schema<'a>(node: &'a Value, root: &'a Value) -> Option<&'a serde_json::Map<String, Value>> {
    variants(node, root).into_iter().find_map(|node| node.get("properties")?.as_object())
}

/// `node` and all its alternatives (`anyOf`, `oneOf`, `allOf`), with references resolved.
fn variants<'a>(node: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        return root.pointer(reference.trim_start_matches('#')).map(|node| variants(node, root)).unwrap_or_default();
    }
    let alternatives = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| node.get(key)?.as_array()).flatten();
    std::iter::once(node).chain(alternatives.flat_map(|node| variants(node, root))).collect()
}

/// The candidate with the smallest edit distance to `name`, if the distance is that of a typing mistake.
pub(crate) fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let scored = candidates.iter().map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    // Of a short name, any other short one is near: more than half of its characters must be the same.
    (distance <= 1 + name.len() / 3 && 2 * distance < name.len().max(candidate.len())).then(|| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_their_lines() {
        let yaml = "a: 1\nb:\n  c: [x, {d: 2}]\n  # a comment\n  e:\n    - f: 1\n      g: 2\nh: {i: 3}\n";
        let lines = lines(yaml);
        let check = |path: &str, line: usize| assert_eq!(lines.get(path), Some(&line), "{path} in {lines:?}");
        check("a", 1);
        check("b.c", 3);
        check("b.c.0", 3);
        check("b.c.1.d", 3);
        check("b.e.0.g", 7);
        check("h.i", 8);
    }

    #[test]
    fn unknown_keys_come_with_the_most_similar_known_key() {
        let schema = super::super::file::schema();
        let check = |value: Value, path: &str, near: Option<&str>| {
            let found = unknown(&value, &schema);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].path.as_str(), found[0].nearest.as_deref()), (path, near));
        };
        check(serde_json::json!({ "modle": {} }), "modle", Some("model"));
        check(serde_json::json!({ "model": { "poling": "mean" } }), "model.poling", Some("pooling"));
        check(serde_json::json!({ "source": { "files": { "path": [] } } }), "source.files.path", Some("paths"));
        check(
            serde_json::json!({ "record": { "keep": ["a", { "field": "b", "typ": "x" }] } }),
            "record.keep.1.typ",
            Some("type"),
        );
        check(serde_json::json!({ "dead_letter": { "pth": "x" } }), "dead_letter.pth", Some("path"));
        check(serde_json::json!({ "sink": { "zzzzzzz": 1 } }), "sink.zzzzzzz", None);
        assert!(unknown(&serde_json::json!({ "devices": ["cpu"], "record": { "text": ["a"] } }), &schema).is_empty());
    }
}

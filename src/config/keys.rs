//! Where a key was written, and which keys there are.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};
use serde_json::Value;

/// Dotted path of each key of a YAML text → its line, counted from 1. Items of lists count as keys `0`, `1`, ….
pub fn lines(yaml: &str) -> BTreeMap<String, usize> {
    /// A map waits for a key or for a key's value; a list counts.
    enum Level {
        Key,
        Value(String),
        Item(usize),
    }
    let mut lines = BTreeMap::new();
    let mut levels: Vec<(String, Level)> = Vec::new();
    // The path at which the next node lies, and what its parent waits for after it.
    let place = |levels: &mut Vec<(String, Level)>| -> String {
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
        // What cannot be parsed is reported by the layer that loads the file.
        let Ok((event, span)) = event else { break };
        match event {
            Event::Scalar(text, ..) => {
                if let Some((path, level @ Level::Key)) = levels.last_mut() {
                    let key = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
                    lines.insert(key, span.start.line());
                    *level = Level::Value(text.to_string());
                } else {
                    lines.entry(place(&mut levels)).or_insert(span.start.line());
                }
            }
            Event::Alias(_) => drop(place(&mut levels)),
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let path = place(&mut levels);
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

/// A key that the schema does not know: its path, the nearest that it knows there, and all that it knows there.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownKey {
    pub path: String,
    pub nearest: Option<String>,
    pub known: Vec<String>,
}

/// All keys of `value` that `schema` does not have.
pub fn unknown(value: &Value, schema: &Value) -> Vec<UnknownKey> {
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

/// The words that the value at a dotted path can be, as far as it is one of some.
pub fn words(path: &str, schema: &Value) -> Vec<String> {
    let mut nodes = vec![schema];
    for name in path.split('.') {
        let inner = nodes.into_iter().flat_map(|node| variants(node, schema)).filter_map(|node| {
            node.get("properties").and_then(|properties| properties.get(name)).or_else(|| node.get("items"))
        });
        nodes = inner.collect();
    }
    let mut words: Vec<String> = Vec::new();
    for node in nodes.into_iter().flat_map(|node| variants(node, schema)) {
        let several = node.get("enum").and_then(Value::as_array).into_iter().flatten();
        let found = several.chain(node.get("const")).filter_map(Value::as_str);
        for word in found {
            if !words.iter().any(|known| known == word) {
                words.push(word.into());
            }
        }
    }
    words
}

/// The properties of the first variant of `node` that is a closed object.
fn object_schema<'a>(node: &'a Value, root: &'a Value) -> Option<&'a serde_json::Map<String, Value>> {
    variants(node, root).into_iter().find_map(|node| node.get("properties")?.as_object())
}

/// `node` with references followed, and its alternatives.
fn variants<'a>(node: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        return root.pointer(reference.trim_start_matches('#')).map(|node| variants(node, root)).unwrap_or_default();
    }
    let alternatives = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| node.get(key)?.as_array()).flatten();
    std::iter::once(node).chain(alternatives.flat_map(|node| variants(node, root))).collect()
}

/// The candidate that a slip of the keyboard is nearest to, if any is near.
pub fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let scored = candidates.iter().map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 3).then(|| candidate.clone())
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
    fn unknown_keys_come_with_the_nearest_known() {
        let schema = super::super::schema();
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

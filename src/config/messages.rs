//! Messages of serde deserializers, rewritten in the grammar of all other messages: `found …; expected …`.

use super::file::schema;
use super::keys;

/// `a[0].b` as `a.0.b`.
pub(crate) fn dotted(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    if path == "." { String::new() } else { path.trim_start_matches('.').to_string() }
}

/// The message of a deserializer about the key at `path` of a pipeline file, without the names of Rust types.
pub(crate) fn user_message(path: &str, message: &str) -> String {
    let Some((_, found)) = message.split_once(" does not have variant constructor ") else {
        return in_our_grammar(path, message);
    };
    let allowed = keys::allowed_values(path, &schema());
    let nearest = keys::nearest(found, &allowed).map(|value| format!(" (did you mean `{value}`?)")).unwrap_or_default();
    format!("found {found:?}; expected one of {}{nearest}", allowed.join(", "))
}

/// The message of a serde deserializer, as `found …; expected …`. A string under `properties` or `headers` is not shown,
/// because it may be a secret.
pub(crate) fn in_our_grammar(path: &str, message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let expected = rest.split_once(", expected ").map_or("no keys", |(_, expected)| expected);
        return format!("unknown key; expected {}", expected.replace('`', ""));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("missing key {name}");
    }
    if let Some((found, expected)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        return format!("found {found:?}; expected {}", expected.replace('`', ""));
    }
    let mistake = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = mistake.and_then(|mistake| mistake.rsplit_once(", expected ")) else {
        return message.to_string();
    };
    let may_be_secret = path.contains("properties") || path.contains("headers");
    let found = match found.split_once(' ') {
        Some(("string", _)) if may_be_secret => "a string",
        Some(("string", text)) => text,
        Some(("integer" | "boolean", value)) => value.trim_matches('`'),
        Some(("64-bit", integer)) => integer.trim_start_matches("integer ").trim_matches('`'),
        Some(("floating", value)) => value.trim_start_matches("point ").trim_matches('`'),
        _ => match found {
            "unit value" | "Option value" | "null" => "nothing",
            "sequence" => "a list",
            "map" => "a map",
            other => other,
        },
    };
    let expected = match expected {
        "usize" | "u64" | "u32" | "u16" | "i64" | "an integer" => "a whole number",
        "a sequence" => "a list",
        other if other.starts_with("an unsigned ") => "a whole number from 0",
        other if other.starts_with("a signed ") => "a whole number",
        // The name of a Rust type says nothing to a user.
        other if other.starts_with("struct ") => "keys and values",
        other => other,
    };
    format!("found {found}; expected {expected}")
}

//! Expansion of `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in string values; `$${` is a literal `${`.

/// Expands every reference in `text`; `lookup` returns the value of a variable.
///
/// # Errors
/// If a variable without a default is not set, or a reference is malformed.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(format!("found {reference:?}; expected a closing brace (write $${{ for a literal ${{)"));
        };
        out.push_str(&value(&reference[2..end], lookup)?);
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, rest) = match reference.find(':') {
        Some(at) => reference.split_at(at),
        None => (reference, ""),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("found \"${{{reference}}}\"; expected the name of a variable, as in ${{NAME}}"));
    }
    match (lookup(name), rest.get(..2)) {
        (Some(value), None) => Ok(value),
        (None, None) if rest.is_empty() => Err(format!("environment variable {name} is not set")),
        // As in a shell, an empty variable counts as unset if there is a default or a message.
        (Some(value), Some(":-" | ":?")) if !value.is_empty() => Ok(value),
        (_, Some(":-")) => Ok(rest[2..].to_string()),
        (_, Some(":?")) => Err(format!("environment variable {name} is not set: {}", &rest[2..])),
        _ => Err(format!("found \"${{{reference}}}\"; expected ${{VAR}}, ${{VAR:-default}} or ${{VAR:?message}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded() {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let check = |text: &str, expected: Result<&str, &str>| match (expand(text, &lookup), expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{text}: {got:?} is not {expected:?}"),
        };
        check("plain $ {x}", Ok("plain $ {x}"));
        check("a${A}b${A}", Ok("a1b1"));
        check("${B:-dflt}", Ok("dflt"));
        check("${EMPTY:-dflt}${EMPTY}", Ok("dflt"));
        check("${B:-}", Ok(""));
        check("$${A}", Ok("${A}"));
        check("${B}", Err("B is not set"));
        check("${B:?set it to the broker}", Err("set it to the broker"));
        check("${A", Err("expected a closing brace"));
        check("${}", Err("expected the name of a variable"));
        check("${A:x}", Err("expected ${VAR}, "));
    }
}

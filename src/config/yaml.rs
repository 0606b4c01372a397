//! YAML before it is merged: checks with the line of each mistake, and `--set` assignments as documents.

use super::aliases;
use super::error::ConfigError;

/// The number of values that a pipeline file may have, far more than any needs.
const NODES_MAX: u64 = 10_000;

/// Refuses invalid YAML, and documents that are empty or no map, which merging would silently ignore.
pub(crate) fn check_yaml(name: &str, text: &str) -> Result<(), ConfigError> {
    let error =
        |line: usize, message: String| ConfigError { location: format!("{name}:{line}"), key: String::new(), message };
    let mut is_map = None;
    for event in saphyr_parser::Parser::new_from_str(text) {
        match event {
            Ok((saphyr_parser::Event::MappingStart(..), _)) if is_map.is_none() => is_map = Some(true),
            Ok((saphyr_parser::Event::Scalar(..) | saphyr_parser::Event::SequenceStart(..), _)) if is_map.is_none() => {
                is_map = Some(false);
            }
            Ok(_) => {}
            Err(scan) => return Err(error(scan.marker().line(), format!("invalid YAML: {}", scan.info()))),
        }
    }
    if let Some(line) = aliases::line_over(text, NODES_MAX) {
        return Err(error(line, format!("too many values after expanding aliases; expected at most {NODES_MAX}")));
    }
    match is_map {
        Some(true) => Ok(()),
        Some(false) => {
            Err(error(1, "found a list or a single value; expected keys and values, such as `source:`".into()))
        }
        None => Err(error(
            1,
            "empty file; expected keys and values, such as `source:` (`embedmill explain --help` has examples)".into(),
        )),
    }
}

/// Turns `a.b=v` into the YAML document `{a: {b: v}}`. The value is YAML too, so `devices=[cpu, cpu]` works.
pub(crate) fn assignment_as_yaml(assignment: &str) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError { location: "--set".into(), key: assignment.to_string(), message };
    let (path, value) = assignment
        .split_once('=')
        .ok_or_else(|| error("no `=`; expected KEY=VALUE, as in model.pooling=cls".into()))?;
    if path.split('.').any(|name| name.trim().is_empty()) {
        return Err(error("empty key; expected a dotted key before the `=`, as in model.pooling=cls".into()));
    }
    let mut yaml = String::new();
    for (depth, name) in path.split('.').enumerate() {
        yaml.push_str(&format!("{}{}:\n", "  ".repeat(depth), name.trim()));
    }
    let yaml = format!("{} {value}\n", yaml.trim_end());
    let mut events = saphyr_parser::Parser::new_from_str(&yaml);
    if let Some(scan) = events.find_map(Result::err) {
        return Err(error(format!("the value is invalid YAML: {}", scan.info())));
    }
    Ok(yaml)
}

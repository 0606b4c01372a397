//! Layers of configuration: YAML files, environment variables and `--set`, merged by the `config` crate.
//!
//! In:    texts and assignments. Out: a [`Config`] whose keys and types are checked; its values are checked by the plan.
//! Fails: at the first mistake, with the key and the file and line, variable or flag that set it.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Value, ValueKind};

use super::{Config, ConfigError, aliases, keys, variables};

const ENVIRONMENT_PREFIX: &str = "EMBEDMILL";

/// The layers over the defaults. Later files override earlier ones; the environment overrides files; `--set` overrides all.
#[derive(Debug, Default)]
pub struct Layers {
    /// Names and contents.
    files: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
    set: Vec<String>,
}

impl Layers {
    /// Reads the files and the process's environment; `set` holds the values of `--set`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(files: &[impl AsRef<Path>], set: &[String]) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map(|text| (path.display().to_string(), text)).map_err(|error| ConfigError {
                location: path.display().to_string(),
                key: String::new(),
                message: format!("cannot be read: {error}; expected a pipeline file"),
            })
        };
        let files = files.iter().map(|path| read(path.as_ref())).collect::<Result<_, _>>()?;
        Ok(Layers { files, environment: std::env::vars_os().filter_map(utf8_variable).collect(), set: set.to_vec() })
    }

    /// Layers from texts instead of the file system and the environment; `files` are names and contents.
    pub fn from_texts(files: &[(&str, &str)], environment: &[(&str, &str)], set: &[&str]) -> Self {
        let owned = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
        Layers {
            files: files.iter().map(owned).collect(),
            environment: environment.iter().map(owned).collect(),
            set: set.iter().map(|text| text.to_string()).collect(),
        }
    }

    /// Merges the layers, expands variables, and checks keys and types.
    ///
    /// # Errors
    /// The first mistake: invalid YAML, an unknown key, a value of the wrong type, or a variable that is not set.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut builder = config::Config::builder();
        for (name, text) in &self.files {
            check_yaml(name, text)?;
            builder = builder.add_source(File::from_str(text, FileFormat::Yaml));
        }
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__");
        let variables = self.environment.iter().filter(|(name, _)| name.starts_with("EMBEDMILL__"));
        let variables = variables.map(|(name, value)| (name.clone(), value.clone())).collect();
        builder = builder.add_source(environment.try_parsing(true).source(Some(variables)));
        for assignment in &self.set {
            builder = builder.add_source(File::from_str(&assignment_as_yaml(assignment)?, FileFormat::Yaml));
        }
        let merged = builder.build().map_err(|error| self.error("", error.to_string()))?;
        let mut root = merged.cache;
        self.expand(&mut root, "")?;
        self.check_unknown_keys(&root)?;
        serde_path_to_error::deserialize(root).map_err(|error| {
            let path = dotted(&error.path().to_string());
            let message = error.into_inner().to_string();
            let message = message.split(" for key `").next().unwrap_or_default();
            self.error(&path, user_message(&path, message))
        })
    }

    /// Expands variables in all strings under `value`, whose dotted path is `path`.
    fn expand(&self, value: &mut Value, path: &str) -> Result<(), ConfigError> {
        let at = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match &mut value.kind {
            ValueKind::String(text) if text.contains("${") => {
                *text = variables::expand(text, &|name| self.environment.get(name).cloned())
                    .map_err(|message| self.error(path, message))?;
            }
            ValueKind::Table(fields) => {
                for (name, field) in fields.iter_mut() {
                    self.expand(field, &at(name))?;
                }
            }
            ValueKind::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.expand(item, &at(&index.to_string()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_unknown_keys(&self, root: &Value) -> Result<(), ConfigError> {
        let root: serde_json::Value =
            root.clone().try_deserialize().map_err(|error| self.error("", error.to_string()))?;
        let unknown = keys::unknown(&root, &super::schema());
        let Some(key) = unknown.first() else { return Ok(()) };
        let hint = match &key.nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("expected one of {}", key.known.join(", ")),
        };
        Err(self.error(&key.path, format!("unknown key; {hint}")))
    }

    /// An error about the key at `path`, with the location that set it.
    pub fn error(&self, path: &str, message: String) -> ConfigError {
        ConfigError { location: self.location_of(path), key: path.to_string(), message }
    }

    /// The location that set the key at `path` last; if no layer sets it, that of the nearest key above it.
    fn location_of(&self, path: &str) -> String {
        let mut path = path;
        loop {
            if path.is_empty() {
                return self.files.last().map(|(name, _)| name.clone()).unwrap_or_default();
            }
            if self.set.iter().any(|set| set.split('=').next().is_some_and(|key| covers(key, path))) {
                return "--set".into();
            }
            let variable = |name: &&String| {
                let key = name.strip_prefix("EMBEDMILL__").map(|key| key.to_lowercase().replace("__", "."));
                key.is_some_and(|key| covers(&key, path))
            };
            if let Some(name) = self.environment.keys().find(variable) {
                return format!("environment variable {name}");
            }
            for (name, text) in self.files.iter().rev() {
                if let Some(line) = keys::lines(text).get(path) {
                    return format!("{name}:{line}");
                }
            }
            path = path.rsplit_once('.').map_or("", |(above, _)| above);
        }
    }
}

/// Parses a YAML text other than a pipeline file, with the same error messages. `name` is its file name.
///
/// # Errors
/// If it is not valid YAML, or has keys or types other than those of `T`.
pub fn document<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    check_yaml(name, text)?;
    let layers = Layers { files: vec![(name.to_string(), text.to_string())], ..Layers::default() };
    let parsed = config::Config::builder().add_source(File::from_str(text, FileFormat::Yaml)).build();
    let root: serde_json::Value = parsed
        .and_then(|parsed| parsed.cache.try_deserialize())
        .map_err(|error| layers.error("", error.to_string()))?;
    serde_path_to_error::deserialize(root).map_err(|error| {
        let path = dotted(&error.path().to_string());
        layers.error(&path, in_our_grammar(&path, &error.into_inner().to_string()))
    })
}

/// Whether setting the key `set` sets the key at `path` too.
fn covers(set: &str, path: &str) -> bool {
    path == set || path.strip_prefix(set).is_some_and(|rest| rest.starts_with('.'))
}

fn utf8_variable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// `a[0].b` as `a.0.b`.
fn dotted(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    if path == "." { String::new() } else { path.trim_start_matches('.').to_string() }
}

/// The number of values that a pipeline file may have, far more than any needs.
const NODES_MAX: u64 = 10_000;

/// Refuses invalid YAML, and documents that are empty or no map, which merging would silently ignore.
fn check_yaml(name: &str, text: &str) -> Result<(), ConfigError> {
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
        Some(false) => Err(error(1, "found a list or a single value; expected keys and values, such as `source:`".into())),
        None => Err(error(1, "empty file; expected keys and values, such as `source:` (`embedmill explain --help` has examples)".into())),
    }
}

/// Turns `a.b=v` into the YAML document `{a: {b: v}}`. The value is YAML too, so `devices=[cpu, cpu]` works.
fn assignment_as_yaml(assignment: &str) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError { location: "--set".into(), key: assignment.to_string(), message };
    let (path, value) =
        assignment.split_once('=').ok_or_else(|| error("no `=`; expected KEY=VALUE, as in model.pooling=cls".into()))?;
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

/// The message of a deserializer about the key at `path` of a pipeline file, without the names of Rust types.
fn user_message(path: &str, message: &str) -> String {
    let Some((_, found)) = message.split_once(" does not have variant constructor ") else {
        return in_our_grammar(path, message);
    };
    let allowed = keys::allowed_values(path, &super::schema());
    let nearest = keys::nearest(found, &allowed).map(|value| format!(" (did you mean `{value}`?)")).unwrap_or_default();
    format!("found {found:?}; expected one of {}{nearest}", allowed.join(", "))
}

/// The message of a serde deserializer, as `found …; expected …`. A string under `properties` or `headers` is not shown,
/// because it may be a secret.
fn in_our_grammar(path: &str, message: &str) -> String {
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
        other => other,
    };
    format!("found {found}; expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pooling, PoolingMode};

    const FILE: &str = "model:\n  id: ${MODEL:-tiny}\n  pooling: cls\ndevices: [cpu]\n";

    #[test]
    fn later_layers_win() {
        let load = |environment: &[(&str, &str)], set: &[&str]| {
            Layers::from_texts(&[("a.yaml", FILE), ("b.yaml", "batch: {tokens: 512}\n")], environment, set).load()
        };
        let plain = load(&[], &[]).unwrap();
        assert_eq!(
            (plain.model.id.as_deref(), plain.model.pooling),
            (Some("tiny"), Some(Pooling::One(PoolingMode::Cls)))
        );
        assert_eq!((plain.batch.tokens, plain.batch.rows), (512, BATCH_ROWS_DEFAULT));
        let environment =
            [("MODEL", "big"), ("EMBEDMILL__MODEL__POOLING", "max"), ("EMBEDMILL__BATCH__TOKENS", "1024")];
        let from_environment = load(&environment, &[]).unwrap();
        assert_eq!(from_environment.model.id.as_deref(), Some("big"));
        assert_eq!(
            (from_environment.model.pooling, from_environment.batch.tokens),
            (Some(Pooling::One(PoolingMode::Max)), 1024)
        );
        let set = load(&environment, &["model.pooling=mean", "devices=[cpu, cpu]"]).unwrap();
        assert_eq!((set.model.pooling, set.devices.len()), (Some(Pooling::One(PoolingMode::Mean)), 2));
    }

    const BATCH_ROWS_DEFAULT: usize = 1024;

    #[test]
    fn mistakes_are_reported_with_their_location() {
        let check = |text: &str, environment: &[(&str, &str)], set: &[&str], expected: &str| {
            let error = Layers::from_texts(&[("p.yaml", text)], environment, set).load().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "model:\n  poling: cls\n",
            &[],
            &[],
            "p.yaml:2: model.poling: unknown key; did you mean `pooling`?",
        );
        check(
            "batch:\n  tokens: many\n",
            &[],
            &[],
            "p.yaml:2: batch.tokens: found \"many\"; expected a whole number",
        );
        check(
            "model:\n  id: ${NOWHERE}\n",
            &[],
            &[],
            "p.yaml:2: model.id: environment variable NOWHERE is not set",
        );
        check(
            "model: {}\n",
            &[("EMBEDMILL__MODEL__POLING", "cls")],
            &[],
            "environment variable EMBEDMILL__MODEL__POLING: model.poling: unknown key; did you mean `pooling`?",
        );
        check(
            "sink:\n  kafka: {topic: t, layout: rows}\n",
            &[],
            &[],
            "p.yaml:2: sink.kafka.layout: found \"rows\"; expected one of batch, row (did you mean `row`?)",
        );
        check("batch:\n  tokens:\n", &[], &[], "p.yaml:2: batch.tokens: found nothing; expected a whole number");
        check(
            "source: {kafka: {properties: hunter2}}\n",
            &[],
            &[],
            "p.yaml:1: source.kafka.properties: found a string; expected a map",
        );
        check("model: {}\n", &[], &["batch"], "--set: batch: no `=`; expected KEY=VALUE, as in model.pooling=cls");
        check("model: [\n", &[], &[], "p.yaml:2: invalid YAML: while parsing a node, did not find expected node content");
    }
}

//! Layers of configuration, merged by the `config` crate, with every mistake traced back to where it was written.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Value, ValueKind};

use super::{Config, ConfigError, aliases, keys, variables};

const ENVIRONMENT_PREFIX: &str = "EMBEDMILL";

/// The layers over the defaults, in ascending order of precedence.
#[derive(Debug, Default)]
pub struct Layers {
    files: Vec<(String, String)>,
    environment: BTreeMap<String, String>,
    set: Vec<String>,
}

impl Layers {
    /// # Errors
    /// If a file cannot be read.
    pub fn read(files: &[impl AsRef<Path>], set: &[String]) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map(|text| (path.display().to_string(), text)).map_err(|error| ConfigError {
                place: path.display().to_string(),
                key: String::new(),
                message: format!("the pipeline file cannot be read: {error}"),
            })
        };
        let files = files.iter().map(|path| read(path.as_ref())).collect::<Result<_, _>>()?;
        Ok(Layers { files, environment: std::env::vars_os().filter_map(utf8_variable).collect(), set: set.to_vec() })
    }

    /// Layers from texts, without looking at the machine; `files` are names and contents.
    pub fn from_texts(files: &[(&str, &str)], environment: &[(&str, &str)], set: &[&str]) -> Self {
        let own = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
        Layers {
            files: files.iter().map(own).collect(),
            environment: environment.iter().map(own).collect(),
            set: set.iter().map(|text| text.to_string()).collect(),
        }
    }

    /// Merges the layers and gives every key its type.
    ///
    /// # Errors
    /// The first mistake: unknown keys, wrong types, variables that are not set, text that is no YAML.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut builder = config::Config::builder();
        for (name, text) in &self.files {
            check_yaml(name, text)?;
            builder = builder.add_source(File::from_str(text, FileFormat::Yaml));
        }
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__");
        let own = self.environment.iter().filter(|(name, _)| name.starts_with("EMBEDMILL__"));
        let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        builder = builder.add_source(environment.try_parsing(true).source(Some(own)));
        for assignment in &self.set {
            builder = builder.add_source(File::from_str(&assignment_as_yaml(assignment)?, FileFormat::Yaml));
        }
        let merged = builder.build().map_err(|error| self.error("", error.to_string()))?;
        let mut root = merged.cache;
        self.expand(&mut root, "")?;
        self.refuse_unknown(&root)?;
        serde_path_to_error::deserialize(root).map_err(|error| {
            let path = bracketless(&error.path().to_string());
            let message = error.into_inner().to_string();
            let message = message.split(" for key `").next().unwrap_or_default();
            self.error(&path, in_words_of_users(&path, message))
        })
    }

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

    fn refuse_unknown(&self, root: &Value) -> Result<(), ConfigError> {
        let root: serde_json::Value =
            root.clone().try_deserialize().map_err(|error| self.error("", error.to_string()))?;
        let unknown = keys::unknown(&root, &super::schema());
        let Some(key) = unknown.first() else { return Ok(()) };
        let hint = match &key.nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("the keys here are {}", key.known.join(", ")),
        };
        Err(self.error(&key.path, format!("there is no such key; {hint}")))
    }

    /// An error about the key at `path`, with the place that set it.
    pub fn error(&self, path: &str, message: String) -> ConfigError {
        ConfigError { place: self.place(path), key: path.to_string(), message }
    }

    /// Where the key at `path`, or the nearest key above it that was written, was set last.
    fn place(&self, path: &str) -> String {
        let mut path = path;
        loop {
            if path.is_empty() {
                return self.files.last().map(|(name, _)| name.clone()).unwrap_or_default();
            }
            if self.set.iter().any(|set| set.split('=').next().is_some_and(|key| under(key, path))) {
                return "--set".into();
            }
            let variable = |name: &&String| {
                let key = name.strip_prefix("EMBEDMILL__").map(|key| key.to_lowercase().replace("__", "."));
                key.is_some_and(|key| under(&key, path))
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

/// A YAML text that is no pipeline file, with its types; mistakes are told by line.
///
/// # Errors
/// If it is no YAML, or does not have the keys that `T` has.
pub fn document<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    check_yaml(name, text)?;
    let layers = Layers { files: vec![(name.to_string(), text.to_string())], ..Layers::default() };
    let parsed = config::Config::builder().add_source(File::from_str(text, FileFormat::Yaml)).build();
    let root: serde_json::Value = parsed
        .and_then(|parsed| parsed.cache.try_deserialize())
        .map_err(|error| layers.error("", error.to_string()))?;
    serde_path_to_error::deserialize(root).map_err(|error| {
        let path = bracketless(&error.path().to_string());
        layers.error(&path, error.into_inner().to_string())
    })
}

/// Whether a layer that sets `set` sets the key at `path`.
fn under(set: &str, path: &str) -> bool {
    path == set || path.strip_prefix(set).is_some_and(|rest| rest.starts_with('.'))
}

fn utf8_variable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// `a[0].b` as `a.0.b`.
fn bracketless(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    if path == "." { String::new() } else { path.trim_start_matches('.').to_string() }
}

/// Most values of a pipeline file, many times what any needs.
const NODES_MAX: u64 = 10_000;

/// Refuses what is no YAML, with the line; and an empty or scalar document, which the merge would take for nothing.
fn check_yaml(name: &str, text: &str) -> Result<(), ConfigError> {
    let error =
        |line: usize, message: String| ConfigError { place: format!("{name}:{line}"), key: String::new(), message };
    let mut first = None;
    for event in saphyr_parser::Parser::new_from_str(text) {
        match event {
            Ok((saphyr_parser::Event::MappingStart(..), _)) if first.is_none() => first = Some(true),
            Ok((saphyr_parser::Event::Scalar(..) | saphyr_parser::Event::SequenceStart(..), _)) if first.is_none() => {
                first = Some(false);
            }
            Ok(_) => {}
            Err(scan) => return Err(error(scan.marker().line(), format!("not YAML: {}", scan.info()))),
        }
    }
    if let Some(line) = aliases::line_over(text, NODES_MAX) {
        return Err(error(line, format!("the aliases up to here stand for more than {NODES_MAX} values")));
    }
    match first {
        Some(true) => Ok(()),
        Some(false) => Err(error(1, "expected keys and values, such as `source:`, found something else".into())),
        None => Err(error(1, "the pipeline file is empty; `embedmill explain --help` shows where to begin".into())),
    }
}

/// `a.b=v` as the YAML document `{a: {b: v}}`; the value is YAML, so `devices=[cpu, cpu]` works.
fn assignment_as_yaml(assignment: &str) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError { place: "--set".into(), key: assignment.to_string(), message };
    let (path, value) =
        assignment.split_once('=').ok_or_else(|| error("expected KEY=VALUE, as in model.pooling=cls".into()))?;
    if path.split('.').any(|name| name.trim().is_empty()) {
        return Err(error("expected a dotted key before the `=`, as in model.pooling=cls".into()));
    }
    let mut yaml = String::new();
    for (depth, name) in path.split('.').enumerate() {
        yaml.push_str(&format!("{}{}:\n", "  ".repeat(depth), name.trim()));
    }
    let yaml = format!("{} {value}\n", yaml.trim_end());
    let mut events = saphyr_parser::Parser::new_from_str(&yaml);
    if let Some(scan) = events.find_map(Result::err) {
        return Err(error(format!("the value is not YAML: {}", scan.info())));
    }
    Ok(yaml)
}

/// What a deserializer says, without the names of our types, and without a property's value, which may be a secret.
fn in_words_of_users(path: &str, message: &str) -> String {
    if let Some((_, found)) = message.split_once(" does not have variant constructor ") {
        let words = keys::words(path, &super::schema());
        let meant = keys::nearest(found, &words).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
        return format!("found `{found}`, expected one of {}{meant}", words.join(", "));
    }
    let message = message.replace("invalid type: unit value,", "found nothing,");
    match message.split_once("invalid type: string ").and_then(|(_, rest)| rest.rsplit_once(", expected ")) {
        Some((_, expected)) if path.contains("properties") => format!("found a text, expected {expected}"),
        _ => message,
    }
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
        assert_eq!((plain.batch.tokens, plain.batch.rows), (512, BatchConfigRows));
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

    #[allow(non_upper_case_globals)]
    const BatchConfigRows: usize = 1024;

    #[test]
    fn mistakes_say_where_they_were_made() {
        let check = |text: &str, environment: &[(&str, &str)], set: &[&str], expected: &str| {
            let error = Layers::from_texts(&[("p.yaml", text)], environment, set).load().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "model:\n  poling: cls\n",
            &[],
            &[],
            "p.yaml:2: model.poling: there is no such key; did you mean `pooling`?",
        );
        check(
            "batch:\n  tokens: many\n",
            &[],
            &[],
            "p.yaml:2: batch.tokens: invalid type: string \"many\", expected an integer",
        );
        check(
            "model:\n  id: ${NOWHERE}\n",
            &[],
            &[],
            "p.yaml:2: model.id: the environment variable NOWHERE is not set",
        );
        check(
            "model: {}\n",
            &[("EMBEDMILL__MODEL__POLING", "cls")],
            &[],
            "environment variable EMBEDMILL__MODEL__POLING: model.poling: there is no such key; did you mean `pooling`?",
        );
        check(
            "sink:\n  kafka: {topic: t, layout: rows}\n",
            &[],
            &[],
            "p.yaml:2: sink.kafka.layout: found `rows`, expected one of batch, row; did you mean `row`?",
        );
        check("batch:\n  tokens:\n", &[], &[], "p.yaml:2: batch.tokens: found nothing, expected an integer");
        check(
            "source: {kafka: {properties: hunter2}}\n",
            &[],
            &[],
            "p.yaml:1: source.kafka.properties: found a text, expected a map",
        );
        check("model: {}\n", &[], &["batch"], "--set: batch: expected KEY=VALUE, as in model.pooling=cls");
        check("model: [\n", &[], &[], "p.yaml:2: not YAML: while parsing a node, did not find expected node content");
    }
}

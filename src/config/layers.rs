//! Layers of configuration: YAML files, environment variables and `--set`, merged by the `config` crate.
//!
//! In:    texts and assignments. Out: a [`Config`] whose keys and types are checked; its values are checked by the plan.
//! Fails: at the first mistake, with the key and the file and line, variable or flag that set it.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Value, ValueKind};

use super::error::ConfigError;
use super::file::{Config, schema};
use super::messages::{dotted, in_our_grammar, user_message};
use super::yaml::{assignment_as_yaml, check_yaml};
use super::{keys, variables};

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
        let unknown = keys::unknown(&root, &schema());
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
pub(crate) fn document<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
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
        check("model:\n  poling: cls\n", &[], &[], "p.yaml:2: model.poling: unknown key; did you mean `pooling`?");
        check("batch:\n  tokens: many\n", &[], &[], "p.yaml:2: batch.tokens: found \"many\"; expected a whole number");
        check("model:\n  id: ${NOWHERE}\n", &[], &[], "p.yaml:2: model.id: environment variable NOWHERE is not set");
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
        check(
            "model: [\n",
            &[],
            &[],
            "p.yaml:2: invalid YAML: while parsing a node, did not find expected node content",
        );
    }
}

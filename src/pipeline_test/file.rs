//! A test file: `NAME.test.yaml` beside `NAME.yaml`.
//!
//! In: YAML. Out: cases, and each case's plan. A mistake is told with its line, as those of pipeline files are. The
//! machine's environment is not looked at: a case passes everywhere or nowhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, Layers, document};
use crate::plan::Plan;
use crate::record::Stage;

/// The ends of a test file's name.
pub const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// The pipeline file, from this file's folder; left out, the one beside it that has its name without `.test`.
    pipeline: Option<PathBuf>,
    /// Keys of the pipeline file that all cases have otherwise, as in `model.max_seq_length: 8`.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// What `${NAME}` in the pipeline file stands for.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    cases: Vec<Case>,
}

/// Records, and what they are to become.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// Keys of the pipeline file that this case has otherwise.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// As they come: a string is a line, a document or a value as it is; a map is a JSON document or a row; for Kafka,
    /// a map with `$value` is a message, with `$key`, `$headers` and `$timestamp`.
    pub records: Vec<Value>,
    pub expect: Expect,
}

/// All that is to come out. What is left out is expected not to come.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub rows: Rows,
    /// Types of columns, as Arrow writes them.
    pub columns: BTreeMap<String, String>,
    /// How many numbers a vector has.
    pub dims: Option<usize>,
    pub dead_letters: Vec<Letter>,
    /// Keys of what is deleted.
    pub deletes: Vec<String>,
    /// A part of the error that stops the run; nothing else is expected then.
    pub stops: Option<String>,
}

/// The rows in their order, of each the columns that matter; or only how many there are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a list of rows, each a map of columns, or a number of rows")]
pub enum Rows {
    Count(usize),
    Each(Vec<BTreeMap<String, Value>>),
}

impl Default for Rows {
    fn default() -> Self {
        Rows::Each(Vec::new())
    }
}

/// A dead letter: what of it matters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Letter {
    /// Which of the case's records it is, counted from 1.
    pub record: Option<usize>,
    #[serde(deserialize_with = "stage")]
    pub stage: Option<Stage>,
    /// A part of the cause.
    pub cause: Option<String>,
}

fn stage<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Stage>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Stage::ALL.map(Stage::as_str).join(", ");
    let stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == name);
    stage.map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no stage; expected one of {known}")))
}

/// A test file that was read, with its pipeline file.
#[derive(Debug)]
pub struct TestFile {
    name: String,
    text: String,
    content: Content,
    /// The pipeline file's name and text.
    pipeline: (String, String),
}

impl TestFile {
    /// # Errors
    /// If it or its pipeline file cannot be read, or it is no test file.
    pub fn read(path: &Path) -> Result<TestFile, ConfigError> {
        let name = path.display().to_string();
        let read = |path: &Path, key: &str, what: &str| {
            let error = |cause: std::io::Error| ConfigError {
                location: name.clone(),
                key: key.into(),
                message: format!("{what} {} cannot be read: {cause}", path.display()),
            };
            std::fs::read_to_string(path).map_err(error)
        };
        let text = read(path, "", "the test file")?;
        let content: Content = document(&name, &text)?;
        let pipeline = match &content.pipeline {
            Some(pipeline) => path.with_file_name("").join(pipeline),
            None => beside(path),
        };
        let pipeline_text = read(&pipeline, "pipeline", "the pipeline file")?;
        let file = TestFile { pipeline: (pipeline.display().to_string(), pipeline_text), name, text, content };
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.content.cases.is_empty() {
            return Err(self.error("cases", "expected at least one case, found an empty list".into()));
        }
        for (index, case) in self.content.cases.iter().enumerate() {
            let Expect { stops, rows, columns, dims, dead_letters, deletes } = &case.expect;
            let others = *rows != Rows::default()
                || !(columns.is_empty() && dims.is_none() && dead_letters.is_empty() && deletes.is_empty());
            if stops.is_some() && others {
                let message = "a run that stops has no result to compare; expected nothing beside `stops`".into();
                return Err(self.error(&format!("cases.{index}.expect.stops"), message));
            }
        }
        Ok(())
    }

    pub fn cases(&self) -> &[Case] {
        &self.content.cases
    }

    /// An error about the key at `path` of this file.
    pub fn error(&self, path: &str, message: String) -> ConfigError {
        Layers::from_texts(&[(&self.name, &self.text)], &[], &[]).error(path, message)
    }

    /// What the pipeline file says, as the case has it.
    ///
    /// # Errors
    /// If the pipeline file is wrong, or with what the case sets becomes so.
    pub fn plan(&self, case: &Case) -> Result<Plan, ConfigError> {
        let Content { set, environment, .. } = &self.content;
        // JSON is YAML, so a value is written as it was read.
        let set: Vec<String> = set.iter().chain(&case.set).map(|(key, value)| format!("{key}={value}")).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let layers = Layers::from_texts(&[(&self.pipeline.0, &self.pipeline.1)], &environment, &set);
        let explained = |mut error: ConfigError| {
            if error.message.contains("environment variable") {
                error.message += &format!("; `environment:` of {} sets it for its cases", self.name);
            }
            error
        };
        let config = layers.load().map_err(explained)?;
        Plan::new(&config).map_err(|error| layers.error(&error.key, error.message))
    }
}

/// `NAME.yaml` of `NAME.test.yaml`.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let extension = if name.ends_with(".yml") { "yml" } else { "yaml" };
    path.with_file_name(format!("{stem}.{extension}"))
}

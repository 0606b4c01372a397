//! Test files: `NAME.test.yaml` beside `NAME.yaml`.
//!
//! In: YAML. Out: cases, and the plan of each case. Fails with the line of the mistake, as pipeline files do.
//! Environment variables of the machine are ignored, so a case gives the same result everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, Layers, document};
use crate::plan::Plan;
use crate::record::Stage;

/// The endings of the names of test files.
pub(crate) const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFileContent {
    /// The pipeline file, relative to this file's folder. By default, the file with this file's name without `.test`.
    pipeline: Option<PathBuf>,
    /// Keys of the pipeline file that all cases override, as in `model.max_seq_length: 8`.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// The values of `${NAME}` in the pipeline file.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    cases: Vec<Case>,
}

/// Records and the expected result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The name that a report shows.
    pub name: String,
    /// Keys of the pipeline file that this case overrides.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// The records: a string is a line, a document or a message's value as it is; a map is a JSON document or a row.
    /// For Kafka, a map with `$value` is a message, with `$key`, `$headers` and `$timestamp`.
    pub records: Vec<Value>,
    /// The expected result.
    pub expect: Expect,
}

/// The complete expected result: by default, no rows, no dead letters and no deletes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// The rows.
    pub rows: ExpectedRows,
    /// The types of columns, in Arrow's notation; other columns may have any type.
    pub columns: BTreeMap<String, String>,
    /// How many numbers a vector is written as.
    pub dims: Option<usize>,
    /// The dead letters, in source order.
    pub dead_letters: Vec<ExpectedDeadLetter>,
    /// The keys of deletes, in source order.
    pub deletes: Vec<String>,
    /// A part of the error that stops the run. Nothing else can be expected with it.
    pub stops: Option<String>,
}

/// The expected rows in source order, each with the columns to compare; or only the number of rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a list of rows, each a map of columns, or a number of rows")]
pub(crate) enum ExpectedRows {
    /// The number of rows.
    Count(usize),
    /// Some columns of each row.
    Each(Vec<BTreeMap<String, Value>>),
}

impl Default for ExpectedRows {
    fn default() -> Self {
        ExpectedRows::Each(Vec::new())
    }
}

/// An expected dead letter; a field that is left out may have any value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpectedDeadLetter {
    /// The number of the record in the case, counted from 1.
    pub record: Option<usize>,
    /// The stage that rejected it.
    #[serde(deserialize_with = "stage")]
    pub stage: Option<Stage>,
    /// A part of the cause.
    pub cause: Option<String>,
}

fn stage<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Stage>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Stage::ALL.map(Stage::as_str).join(", ");
    let stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == name);
    stage.map(Some).ok_or_else(|| serde::de::Error::custom(format!("unknown stage {name:?}; expected one of {known}")))
}

/// A test file and its pipeline file.
#[derive(Debug)]
pub(crate) struct TestFile {
    name: String,
    text: String,
    content: TestFileContent,
    pipeline_name: String,
    pipeline_text: String,
}

impl TestFile {
    /// Reads a test file and its pipeline file.
    ///
    /// # Errors
    /// If one of them cannot be read, or the test file has a mistake.
    pub(crate) fn read(path: &Path) -> Result<TestFile, ConfigError> {
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
        let content: TestFileContent = document(&name, &text)?;
        let pipeline = match &content.pipeline {
            Some(pipeline) => path.with_file_name("").join(pipeline),
            None => pipeline_beside(path),
        };
        let pipeline_text = read(&pipeline, "pipeline", "the pipeline file")?;
        let pipeline_name = pipeline.display().to_string();
        let file = TestFile { name, text, content, pipeline_name, pipeline_text };
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.content.cases.is_empty() {
            return Err(self.error("cases", "found an empty list; expected at least one case".into()));
        }
        for (index, case) in self.content.cases.iter().enumerate() {
            let Expect { stops, rows, columns, dims, dead_letters, deletes } = &case.expect;
            let others = *rows != ExpectedRows::default()
                || !(columns.is_empty() && dims.is_none() && dead_letters.is_empty() && deletes.is_empty());
            if stops.is_some() && others {
                let message = "found other expectations beside it; expected none, since a run that stops has no result to compare".into();
                return Err(self.error(&format!("cases.{index}.expect.stops"), message));
            }
        }
        Ok(())
    }

    /// The cases, in the order of the file.
    pub(crate) fn cases(&self) -> &[Case] {
        &self.content.cases
    }

    /// An error about the key at `path` of the test file.
    pub(crate) fn error(&self, path: &str, message: String) -> ConfigError {
        Layers::from_texts(&[(&self.name, &self.text)], &[], &[]).error(path, message)
    }

    /// The plan of the pipeline file, with the keys that the case overrides.
    ///
    /// # Errors
    /// If the pipeline file is invalid, possibly only with these keys.
    pub(crate) fn plan(&self, case: &Case) -> Result<Plan, ConfigError> {
        let TestFileContent { set, environment, .. } = &self.content;
        // JSON is valid YAML, so values are passed on as JSON.
        let set: Vec<String> = set.iter().chain(&case.set).map(|(key, value)| format!("{key}={value}")).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let layers = Layers::from_texts(&[(&self.pipeline_name, &self.pipeline_text)], &environment, &set);
        let explained = |mut error: ConfigError| {
            if error.message.contains("environment variable") {
                error.message += &format!(" (`environment:` of {} sets it for its cases)", self.name);
            }
            error
        };
        let config = layers.load().map_err(explained)?;
        Plan::new(&config).map_err(|error| layers.error(&error.key, error.message))
    }
}

/// The path of `NAME.yaml` for that of `NAME.test.yaml`.
fn pipeline_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let extension = if name.ends_with(".yml") { "yml" } else { "yaml" };
    path.with_file_name(format!("{stem}.{extension}"))
}

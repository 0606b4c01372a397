//! A small JSON file of a model folder in, its values with checked types out.
//!
//! The file keeps its path, so every error names the file and the key. The file is untrusted: it may be missing, huge, a
//! pipe or invalid JSON. A number that it claims never sizes an allocation here.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::LoadError;

/// A configuration file is a few kilobytes; a few megabytes leave room for an index of many shards.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// A JSON object and the file that it was read from.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// The file, for errors.
    pub path: PathBuf,
    /// The object, nulls included.
    pub json: Map<String, Value>,
}

/// Reads a JSON file. Returns `None` if it does not exist.
///
/// # Errors
/// If it is not a regular file, cannot be read, is too large or is not JSON.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, LoadError> {
    // Opening a pipe would block until somebody writes to it.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(LoadError::model(path, "not a regular file; expected a JSON file"));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LoadError::model(path, format!("cannot be opened: {error}"))),
    };
    let mut bytes = Vec::new();
    let read = file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| LoadError::model(path, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        let message = format!("too large for a configuration file; expected at most {JSON_BYTES_MAX} bytes");
        return Err(LoadError::model(path, message));
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(LoadError::model(path, format!("invalid JSON: {error}"))),
    }
}

impl ConfigFile {
    /// Reads a JSON object. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// If the file cannot be read as JSON, or its value is not an object.
    pub fn read(path: PathBuf) -> Result<Option<ConfigFile>, LoadError> {
        match read_json(&path)? {
            None => Ok(None),
            Some(Value::Object(json)) => Ok(Some(ConfigFile { path, json })),
            Some(other) => {
                let message = format!("found {}; expected a JSON object", type_name(&other));
                Err(LoadError::model(path, message))
            }
        }
    }

    /// An error about the file.
    pub fn error(&self, message: impl Into<String>) -> LoadError {
        LoadError::model(&self.path, message)
    }

    /// An error about a key that is missing: `"KEY": missing; expected EXPECTED`.
    pub fn missing(&self, key: &str, expected: impl fmt::Display) -> LoadError {
        self.error(format!("{key:?}: missing; expected {expected}"))
    }

    /// An error about the value of a key: `"KEY": found VALUE; expected EXPECTED`.
    pub fn unexpected(&self, key: &str, value: &Value, expected: impl fmt::Display) -> LoadError {
        self.error(format!("{key:?}: found {}; expected {expected}", shorten(value)))
    }

    /// An error about a value that would change the vectors and that embedmill does not implement: `"KEY": found VALUE, which is
    /// not supported`.
    pub fn unsupported(&self, key: &str, value: &Value) -> LoadError {
        self.error(format!("{key:?}: found {}, which is not supported", shorten(value)))
    }

    /// The value of a key. Null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// A whole number within `range`, or `None` if the key is absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| range.contains(count)) {
            Some(count) => Ok(Some(count)),
            None => Err(self.unexpected(key, value, whole_number(&range))),
        }
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// If the value is anything else, or the key is absent.
    pub fn required_count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, LoadError> {
        let expected = whole_number(&range);
        self.count(key, range)?.ok_or_else(|| self.missing(key, expected))
    }

    /// A number, or `None` if the key is absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.unexpected(key, value, "a number")),
        }
    }

    /// A string, or `None` if the key is absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.unexpected(key, value, "a string")),
        }
    }

    /// A boolean; false if the key is absent.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn flag(&self, key: &str) -> Result<bool, LoadError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        match value.as_bool() {
            Some(flag) => Ok(flag),
            None => Err(self.unexpected(key, value, "true or false")),
        }
    }
}

fn whole_number(range: &std::ops::RangeInclusive<usize>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// A JSON value for an error message: on one line, and cut off after 60 characters.
pub(crate) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

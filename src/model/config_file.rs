//! The small JSON files of a model folder, read with their path kept, so that every error can name both file and key.
//!
//! A file may be missing, huge or not JSON at all. Nothing is allocated by a number that a file claims.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::LoadError;

/// A configuration file is a few kilobytes; a few megabytes leave room for an index of many shards.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// A JSON object and the file that it came from, so that every complaint can name both.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub json: Map<String, Value>,
}

/// Reads a JSON file; `None` where there is none.
pub fn read_json(path: &Path) -> Result<Option<Value>, LoadError> {
    // Opening a pipe would wait for somebody to write.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(LoadError::model(path, "is no file"));
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
        return Err(LoadError::model(path, format!("is larger than {JSON_BYTES_MAX} bytes; this is no configuration")));
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(LoadError::model(path, format!("is no JSON: {error}"))),
    }
}

impl ConfigFile {
    /// Reads a JSON object; `None` where there is no such file.
    pub fn read(path: PathBuf) -> Result<Option<ConfigFile>, LoadError> {
        match read_json(&path)? {
            None => Ok(None),
            Some(Value::Object(json)) => Ok(Some(ConfigFile { path, json })),
            Some(other) => Err(LoadError::model(path, format!("must be a JSON object, found {}", kind(&other)))),
        }
    }

    pub fn error(&self, message: impl Into<String>) -> LoadError {
        LoadError::model(&self.path, message)
    }

    /// The value of a key; a null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// A whole number within bounds; `None` where the key is absent.
    pub fn count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| range.contains(count)) {
            Some(count) => Ok(Some(count)),
            None => {
                let (least, most) = range.into_inner();
                Err(self
                    .error(format!("`{key}` must be a whole number from {least} to {most}, found {}", short(value))))
            }
        }
    }

    /// A whole number within bounds that must be there.
    pub fn needed_count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, LoadError> {
        self.count(key, range)?.ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(format!("`{key}` must be a number, found {}", short(value)))),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.error(format!("`{key}` must be a string, found {}", short(value)))),
        }
    }

    /// A switch that is off where the key is absent.
    pub fn flag(&self, key: &str) -> Result<bool, LoadError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        match value.as_bool() {
            Some(flag) => Ok(flag),
            None => Err(self.error(format!("`{key}` must be true or false, found {}", short(value)))),
        }
    }
}

/// A JSON value as an error shows it: short, on one line.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

//! A model folder's files: small JSON files read with their place kept, and the files of the weights found and hashed.
//!
//! Everything in a folder is somebody else's: a file may be missing, huge, no JSON, or name a path outside. Each such
//! thing is an error that names the file, the key, what was expected and what was found; nothing is allocated by a number
//! that a file claims.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

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

/// What config.json says about a model's size, whatever keys its family has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Length of a token's vector.
    pub hidden: usize,
    pub layers: usize,
    /// Rows of the word embedding; every token id is below it.
    pub vocab_size: usize,
    /// Most tokens of a text; none where the architecture has no end.
    pub positions: Option<usize>,
}

impl Sizes {
    /// Of numbers as torch counts; they were read from config.json, so none is negative.
    #[cfg(feature = "torch")]
    pub fn of((hidden, layers): (i64, usize), vocab_size: i64, positions: Option<i64>) -> Sizes {
        let size = |number: i64| number as usize;
        Sizes { hidden: size(hidden), layers, vocab_size: size(vocab_size), positions: positions.map(size) }
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

/// Whether a path that a file or a server names stays inside the folder that it is joined to.
pub fn stays_inside(name: &str) -> bool {
    !name.contains(['\\', '\0']) && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The one file that holds a model's weights, or the index that names several.
pub const WEIGHTS: &str = "model.safetensors";
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// Weights in formats that this version does not read, and that nobody should: loading a pickle runs its code.
const OTHER_WEIGHTS: [&str; 6] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "onnx/model.onnx",
    "openvino/openvino_model.xml",
];
/// More shards than any model has.
const SHARDS_MAX: usize = 4_096;

/// What to do about a model that comes without safetensors.
pub const CONVERT: &str = "only safetensors are read; take a revision of the model that has them, or convert it with \
                           python -c \"from sentence_transformers import SentenceTransformer as S; S('MODEL').save('FOLDER')\"";

/// The files of the weights, in the order of their names.
pub fn weights(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let single = folder.join(WEIGHTS);
    if single.is_file() {
        return Ok(vec![single]);
    }
    if let Some(index) = ConfigFile::read(folder.join(WEIGHTS_INDEX))? {
        return shards(&index)?.into_iter().map(|name| existing_shard(folder, &index, &name)).collect();
    }
    let script = ["model.pt", "model.ts"].iter().find(|name| folder.join(name).is_file());
    if let Some(name) = script {
        let how = "if that is TorchScript and you trust it, name it, since loading it runs the code in it";
        let named = folder.join(name);
        return Err(LoadError::model(
            folder,
            format!("has {name} but no {WEIGHTS}; {how}: model.script: {} (--script)", named.display()),
        ));
    }
    match OTHER_WEIGHTS.iter().find(|name| folder.join(name).exists()) {
        Some(other) => Err(LoadError::model(folder, format!("has {other} but no {WEIGHTS}; {CONVERT}"))),
        None => {
            Err(LoadError::model(folder, format!("has no weights; a model folder has {WEIGHTS} or {WEIGHTS_INDEX}")))
        }
    }
}

fn existing_shard(folder: &Path, index: &ConfigFile, name: &str) -> Result<PathBuf, LoadError> {
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(index.error(format!("names the shard {name}, which is not in the folder")))
    }
}

/// The names of the shards that an index lists, each once and sorted.
pub fn shards(index: &ConfigFile) -> Result<Vec<String>, LoadError> {
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(index.error("`weight_map` must be an object of tensor names and file names"));
    };
    let mut names = Vec::new();
    for (tensor, name) in map {
        match name.as_str() {
            Some(name) if stays_inside(name) && name.ends_with(".safetensors") => names.push(name.to_owned()),
            _ => {
                let expected = "the name of a .safetensors file inside the folder";
                return Err(index.error(format!("`weight_map.{tensor}` must be {expected}, found {}", short(name))));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(index.error(format!("`weight_map` must name 1 to {SHARDS_MAX} files, found {}", names.len())));
    }
    Ok(names)
}

/// SHA-256 of the weights in hex: of a single file, what the hub shows for it; of shards, the hash of their hashes' bytes
/// in the order of their names.
pub fn sha256(files: &[PathBuf]) -> Result<String, LoadError> {
    let mut hashes = Vec::new();
    for path in files {
        hashes.push(sha256_file(path).map_err(|error| LoadError::model(path, format!("cannot be read: {error}")))?);
    }
    Ok(match hashes.as_slice() {
        [single] => hex(single),
        several => hex(&Sha256::digest(several.concat())),
    })
}

/// SHA-256 of a file, read in pieces.
pub fn sha256_file(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

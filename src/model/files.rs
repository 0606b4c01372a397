//! A folder in, the files of the weights in it and their hash out.
//!
//! Fails if the folder has no weights in safetensors. A path from a file may not leave the folder.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::LoadError;
use super::config_file::ConfigFile;
use crate::digest::{hex, sha256_file};

/// Whether a path from a file or a server stays inside the folder that it is joined to.
pub(crate) fn stays_inside(name: &str) -> bool {
    !name.contains(['\\', '\0']) && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The file of a model whose weights are in one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The file that names the shards of a model whose weights are in several.
pub(crate) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// Files of weights in other formats, which are not read. Most of them are pickles, and loading a pickle executes the code in it.
const OTHER_WEIGHTS: [&str; 6] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "onnx/model.onnx",
    "openvino/openvino_model.xml",
];
/// Maximum number of shards; no known model reaches it.
const SHARDS_MAX: usize = 4_096;

/// What is expected of a model without safetensors, and how to get there.
pub(crate) const SAFETENSORS_ONLY: &str = "expected safetensors (take a revision of the model that has them, or convert it with \
     python -c \"from sentence_transformers import SentenceTransformer as S; S('MODEL').save('FOLDER')\")";

/// The files of the weights in a folder, sorted by name.
///
/// # Errors
/// If the folder has no weights, has them in another format only, or lacks a shard.
pub(crate) fn weights(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let single = folder.join(WEIGHTS);
    if single.is_file() {
        return Ok(vec![single]);
    }
    if let Some(index) = ConfigFile::read(folder.join(WEIGHTS_INDEX))? {
        return shards(&index)?.into_iter().map(|name| existing_shard(folder, &index, &name)).collect();
    }
    let script = ["model.pt", "model.ts"].iter().find(|name| folder.join(name).is_file());
    if let Some(name) = script {
        let hint = format!(
            "if {name} is TorchScript and you trust it, set model.script (--script) to {}; loading it executes its code",
            folder.join(name).display()
        );
        return Err(LoadError::model(folder, format!("found {name} but no weights; expected {WEIGHTS} ({hint})")));
    }
    match OTHER_WEIGHTS.iter().find(|name| folder.join(name).exists()) {
        Some(other) => Err(LoadError::model(folder, format!("found {other} but no {WEIGHTS}; {SAFETENSORS_ONLY}"))),
        None => Err(LoadError::model(folder, format!("no weights; expected {WEIGHTS} or {WEIGHTS_INDEX}"))),
    }
}

fn existing_shard(folder: &Path, index: &ConfigFile, name: &str) -> Result<PathBuf, LoadError> {
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(index.error(format!("shard {name:?} is missing; expected it beside this file")))
    }
}

/// The names of the shards that an index lists, sorted and without duplicates.
///
/// # Errors
/// If the index lists none, too many, or one outside the folder.
pub(crate) fn shards(index: &ConfigFile) -> Result<Vec<String>, LoadError> {
    let expected = "an object of tensor names and file names";
    let map = match index.get("weight_map") {
        Some(Value::Object(map)) => map,
        Some(other) => return Err(index.unexpected("weight_map", other, expected)),
        None => return Err(index.missing("weight_map", expected)),
    };
    let mut names = Vec::new();
    for (tensor, name) in map {
        match name.as_str() {
            Some(name) if stays_inside(name) && name.ends_with(".safetensors") => names.push(name.to_owned()),
            _ => {
                let expected = "the name of a .safetensors file inside the folder";
                return Err(index.unexpected(&format!("weight_map.{tensor}"), name, expected));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(index.error(format!("\"weight_map\": found {} files; expected 1 to {SHARDS_MAX}", names.len())));
    }
    Ok(names)
}

/// The SHA-256 of weights, in hexadecimal. For a single file it is the file's, as the hub shows it. For several files it is the
/// hash of the files' hashes, in the order of `files`.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn sha256(files: &[PathBuf]) -> Result<String, LoadError> {
    let mut hashes = Vec::new();
    for path in files {
        hashes.push(sha256_file(path).map_err(|error| LoadError::model(path, format!("cannot be read: {error}")))?);
    }
    Ok(match hashes.as_slice() {
        [single] => hex(single),
        several => hex(&Sha256::digest(several.concat())),
    })
}

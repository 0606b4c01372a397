//! A model folder's weight files: which there are, and their hash. A path that a file names is held inside the folder.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::LoadError;
use super::config_file::{ConfigFile, short};
use crate::digest::{hex, sha256_file};

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

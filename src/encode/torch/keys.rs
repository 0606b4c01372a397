//! The keys of config.json that many families share: read, bounded, and refused where a value cannot be honoured.
//!
//! Every error names the file, the key, what was expected and what was found. Nothing here reads a weight.

use super::layers::Activation;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// More than any model has; what a config may claim before a tensor's shape is held against it.
const WIDTH_MAX: usize = 1 << 20;
pub const HEADS_MAX: usize = 4_096;
pub const LAYERS_MAX: usize = 1_024;
pub const ROWS_MAX: usize = 10_000_000;
pub const TYPES_MAX: usize = 1_024;

/// The width of a layer that must be there.
pub fn width(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=WIDTH_MAX)? as i64)
}

pub fn width_or(file: &ConfigFile, key: &str, default: i64) -> Result<i64, LoadError> {
    Ok(file.count(key, 1..=WIDTH_MAX)?.map_or(default, |width| width as i64))
}

/// How many rows a table has; it must be there.
pub fn rows(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=ROWS_MAX)? as i64)
}

pub fn heads(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=HEADS_MAX)? as i64)
}

pub fn layers(file: &ConfigFile, key: &str) -> Result<usize, LoadError> {
    file.required_count(key, 1..=LAYERS_MAX)
}

/// `hidden` shared out evenly among `heads`.
pub fn head_dim(
    file: &ConfigFile,
    (hidden_key, hidden): (&str, i64),
    (heads_key, heads): (&str, i64),
) -> Result<i64, LoadError> {
    if hidden % heads == 0 {
        return Ok(hidden / heads);
    }
    Err(file.error(format!("`{hidden_key}` {hidden} is not divisible by `{heads_key}` {heads}")))
}

/// What keeps a norm from dividing by zero.
pub fn epsilon(file: &ConfigFile, key: &str, default: f64) -> Result<f64, LoadError> {
    let eps = file.number(key)?.unwrap_or(default);
    if eps > 0.0 && eps < 1.0 {
        return Ok(eps);
    }
    Err(file.error(format!("`{key}` must be between 0 and 1, found {eps}")))
}

pub fn activation(file: &ConfigFile, key: &str, default: &str) -> Result<Activation, LoadError> {
    let name = file.text(key)?.unwrap_or(default);
    Activation::named(name)
        .ok_or_else(|| file.error(format!("`{key}` {name:?} is not supported; there are {}", Activation::KNOWN)))
}

/// A switch with the value that the family gives it where the key is absent.
pub fn flag_or(file: &ConfigFile, key: &str, default: bool) -> Result<bool, LoadError> {
    if file.get(key).is_none() { Ok(default) } else { file.flag(key) }
}

/// Switches that would change the numbers and are not implemented: refused where they are on, never ignored.
pub fn refuse_flags(file: &ConfigFile, keys: &[&str]) -> Result<(), LoadError> {
    for key in keys {
        if file.flag(key)? {
            return Err(file.error(format!("`{key}` is true, which this version does not support")));
        }
    }
    Ok(())
}

/// A model that is, or has, a decoder: what an encoder's family cannot honour.
pub fn refuse_decoders(file: &ConfigFile) -> Result<(), LoadError> {
    refuse_flags(file, &["is_decoder", "add_cross_attention", "is_encoder_decoder"])?;
    refuse_values(file, &[])
}

/// Heads of queries that share heads of keys and values share them evenly.
pub fn check_shared(file: &ConfigFile, queries: i64, keys: i64) -> Result<(), LoadError> {
    if queries % keys == 0 {
        return Ok(());
    }
    Err(file.error(format!("`num_attention_heads` {queries} is not divisible by `num_key_value_heads` {keys}")))
}

/// Keys whose presence alone means something that is not implemented; null and an empty object count as absent.
pub fn refuse_values(file: &ConfigFile, keys: &[&str]) -> Result<(), LoadError> {
    let empty = |value: &serde_json::Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    for key in ["quantization_config", "pruned_heads"].iter().chain(keys) {
        if let Some(value) = file.get(key).filter(|value| !empty(value)) {
            return Err(file.error(format!("`{key}` is {}, which this version does not support", shorten(value))));
        }
    }
    Ok(())
}

/// Keys that, where they are there, must have the one value that is implemented.
pub fn refuse_others(file: &ConfigFile, keys: &[(&str, &str)]) -> Result<(), LoadError> {
    for (key, known) in keys {
        if let Some(value) = file.text(key)?.filter(|value| value != known) {
            return Err(file.error(format!("`{key}` {value:?} is not supported; there is {known:?}")));
        }
    }
    Ok(())
}

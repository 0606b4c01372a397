//! Reads the values of config.json that families have, bounds them, and refuses what this version cannot compute.
//!
//! Every error names the file, the key, what was found and what was expected. Nothing here reads a weight.

use super::layers::activation::Activation;
use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// More than any model has. It bounds what a config may claim before a tensor's shape is compared with it.
const WIDTH_MAX: usize = 1 << 20;
/// More attention heads than any model has.
pub(super) const HEADS_MAX: usize = 4_096;
/// More layers than any model has.
pub(super) const LAYERS_MAX: usize = 1_024;
/// More rows than any table of a model has.
pub(super) const ROWS_MAX: usize = 10_000_000;
/// More token types than any model has.
pub(super) const TOKEN_TYPES_MAX: usize = 1_024;

/// The width of a layer. The key is required.
pub(super) fn width(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=WIDTH_MAX)? as i64)
}

/// The width of a layer, or `default` where the key is absent.
pub(super) fn width_or(file: &ConfigFile, key: &str, default: i64) -> Result<i64, LoadError> {
    Ok(file.count(key, 1..=WIDTH_MAX)?.map_or(default, |width| width as i64))
}

/// The number of rows of a table. The key is required.
pub(super) fn rows(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=ROWS_MAX)? as i64)
}

/// The number of attention heads. The key is required.
pub(super) fn heads(file: &ConfigFile, key: &str) -> Result<i64, LoadError> {
    Ok(file.required_count(key, 1..=HEADS_MAX)? as i64)
}

/// The number of layers. The key is required.
pub(super) fn layers(file: &ConfigFile, key: &str) -> Result<usize, LoadError> {
    file.required_count(key, 1..=LAYERS_MAX)
}

/// The number of token types (segments), from `min` on; `default` where the key is absent.
pub(super) fn token_types(file: &ConfigFile, min: usize, default: usize) -> Result<i64, LoadError> {
    Ok(file.count("type_vocab_size", min..=TOKEN_TYPES_MAX)?.unwrap_or(default) as i64)
}

/// The constant that keeps a norm from dividing by zero.
pub(super) fn epsilon(file: &ConfigFile, key: &str, default: f64) -> Result<f64, LoadError> {
    let eps = file.number(key)?.unwrap_or(default);
    if eps > 0.0 && eps < 1.0 {
        return Ok(eps);
    }
    Err(file.error(format!("{key:?}: found {eps}; expected a number greater than 0 and less than 1")))
}

/// An activation function by transformers' name, or the one called `default` where the key is absent.
pub(super) fn activation(file: &ConfigFile, key: &str, default: &str) -> Result<Activation, LoadError> {
    let name = file.text(key)?.unwrap_or(default);
    Activation::named(name).ok_or_else(|| unsupported_activation(file, key, name))
}

/// The error of an activation function that is not implemented.
pub(super) fn unsupported_activation(file: &ConfigFile, key: &str, name: &str) -> LoadError {
    unsupported(file, key, &format!("{name:?}"), &format!("one of {}", Activation::KNOWN))
}

/// A switch; `default` where the key is absent.
pub(super) fn flag_or(file: &ConfigFile, key: &str, default: bool) -> Result<bool, LoadError> {
    if file.get(key).is_none() { Ok(default) } else { file.flag(key) }
}

/// The error of a value that would change the vectors and is not implemented. `found` and `expected` are as JSON has them.
pub(super) fn unsupported(file: &ConfigFile, key: &str, found: &str, expected: &str) -> LoadError {
    file.error(format!("{key:?}: found {found}, which is not supported; expected {expected}"))
}

/// Refuses switches that are on, would change the vectors, and are not implemented.
pub(super) fn refuse_flags(file: &ConfigFile, keys: &[&str]) -> Result<(), LoadError> {
    for key in keys {
        if file.flag(key)? {
            return Err(unsupported(file, key, "true", "false"));
        }
    }
    Ok(())
}

/// Refuses a model that is a decoder or has one.
pub(super) fn refuse_decoders(file: &ConfigFile) -> Result<(), LoadError> {
    refuse_flags(file, &["is_decoder", "add_cross_attention", "is_encoder_decoder"])?;
    refuse_values(file, &[])
}

/// Refuses keys that mean something that is not implemented whenever they have a value, besides those that every family
/// refuses. null and an empty object count as no value.
pub(super) fn refuse_values(file: &ConfigFile, keys: &[&str]) -> Result<(), LoadError> {
    let empty = |value: &serde_json::Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    for key in ["quantization_config", "pruned_heads"].iter().chain(keys) {
        if let Some(value) = file.get(key).filter(|value| !empty(value)) {
            return Err(unsupported(file, key, &shorten(value), "null or no such key"));
        }
    }
    Ok(())
}

/// Refuses keys whose value is another than the one that is implemented; an absent key is accepted.
pub(super) fn refuse_others(file: &ConfigFile, keys: &[(&str, &str)]) -> Result<(), LoadError> {
    for (key, supported) in keys {
        if let Some(value) = file.text(key)?.filter(|value| value != supported) {
            return Err(unsupported(file, key, &format!("{value:?}"), &format!("{supported:?}")));
        }
    }
    Ok(())
}

/// Refuses a number that is another than 1, the one that is implemented; an absent key is accepted.
pub(super) fn refuse_other_than_1(file: &ConfigFile, key: &str) -> Result<(), LoadError> {
    match file.number(key)?.filter(|number| *number != 1.0) {
        Some(number) => Err(unsupported(file, key, &number.to_string(), "1")),
        None => Ok(()),
    }
}

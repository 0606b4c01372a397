//! How many tokens a text may have: a number from the pipeline file or the model's files, within the model's positions.

use std::path::Path;

use super::config_file::ConfigFile;
use super::sentence_bert_config::SentenceBertConfig;
use super::spec::HASH_MAX_SEQ_LENGTH;
use super::{Backend, LoadError, ModelConfig, ModelRuntime};

/// Upper bound of a length in the files; no known model reaches it.
const POSITIONS_MAX: usize = 10_000_000;

/// The maximum number of tokens of a text: the pipeline file's; else sentence_bert_config.json's; else the smaller of the
/// tokenizer's and the model's, as in sentence-transformers.
///
/// # Errors
/// If it exceeds the model's positions, or nothing states it.
pub(super) fn max_seq_length(
    transformer: &Path,
    sentence_bert: &SentenceBertConfig,
    file: Option<&ConfigFile>,
    config: &ModelConfig,
    runtime: &dyn ModelRuntime,
) -> Result<usize, LoadError> {
    let positions = positions(file, config, runtime)?;
    let positions_max = positions.unwrap_or(POSITIONS_MAX);
    let too_long = |length: usize| {
        format!("found {length}; expected at most {positions_max}, the number of the model's positions")
    };
    if let Some(length) = config.max_seq_length {
        if length > positions_max {
            return Err(LoadError::Config { key: "model.max_seq_length", message: too_long(length) });
        }
        return Ok(length);
    }
    if let Some(length) = sentence_bert.max_seq_length {
        if length > positions_max {
            let message = format!("\"max_seq_length\": {}", too_long(length));
            return Err(LoadError::model(&sentence_bert.path, message));
        }
        return Ok(length);
    }
    match (tokenizer_length(transformer)?, positions) {
        (Some(length), _) => Ok(length.min(positions_max)),
        (None, Some(positions)) => Ok(positions),
        (None, None) if config.backend == Backend::Hash => Ok(HASH_MAX_SEQ_LENGTH),
        (None, None) => {
            let message = "unknown maximum length of a text; expected it in the model's or the tokenizer's files (or set \
                           model.max_seq_length)";
            Err(LoadError::model(transformer, message))
        }
    }
}

/// The number of the model's positions, or `None` if the model does not limit it.
fn positions(
    file: Option<&ConfigFile>,
    config: &ModelConfig,
    runtime: &dyn ModelRuntime,
) -> Result<Option<usize>, LoadError> {
    let Some(file) = file else { return Ok(None) };
    let declared = || file.count("max_position_embeddings", 1..=POSITIONS_MAX);
    if config.backend == Backend::Hash {
        return declared();
    }
    match runtime.check(file.text("model_type")?.unwrap_or_default(), file) {
        Ok(sizes) => Ok(sizes.positions),
        // A script may be of a family that this build does not know, or of none.
        Err(_) if config.script.is_some() => declared(),
        Err(error) => Err(error),
    }
}

/// `model_max_length` of tokenizer_config.json.
fn tokenizer_length(transformer: &Path) -> Result<Option<usize>, LoadError> {
    let Some(file) = ConfigFile::read(transformer.join("tokenizer_config.json"))? else { return Ok(None) };
    // transformers writes "no limit" as 1e30, so this is read as a float.
    let length = file.number("model_max_length")?;
    let length = length.filter(|length| *length >= 1.0 && *length <= POSITIONS_MAX as f64);
    Ok(length.map(|length| length as usize))
}

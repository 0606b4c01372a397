//! sentence_bert_config.json in, how the Transformer module treats text out.
//!
//! A switch of the file that changes the vectors and is not supported is refused by name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::LoadError;
use super::config_file::ConfigFile;

/// What the file says; the defaults if it does not exist.
#[derive(Debug, Default)]
pub(crate) struct SentenceBertConfig {
    /// The maximum number of tokens of a text.
    pub max_seq_length: Option<usize>,
    /// Whether texts are lowercased before the tokenizer's own normalizer.
    pub lower_case: bool,
    /// The file, for errors.
    pub path: PathBuf,
}

/// The names of the file over the years. The first that exists counts.
pub(crate) const SENTENCE_BERT_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Upper bound of `max_seq_length`; no known model reaches it.
const POSITIONS_MAX: usize = 10_000_000;

/// Switches that change the vectors, each with the only supported value.
const SWITCHES: [(&str, &str); 3] = [
    ("transformer_task", "feature-extraction"),
    ("module_output_name", "token_embeddings"),
    ("tokenizer_name_or_path", ""),
];

/// Settings that change the vectors unless they are absent or an empty object.
const SETTINGS: [&str; 4] = ["processing_kwargs", "query_expansion", "query_length", "document_length"];

/// Arguments that sentence-transformers passes to transformers when it loads the model.
const ARGUMENTS: [&str; 7] = [
    "config_args",
    "config_kwargs",
    "model_args",
    "model_kwargs",
    "processor_kwargs",
    "tokenizer_args",
    "tokenizer_kwargs",
];
/// Arguments that change no vector.
const HARMLESS_ARGUMENTS: [&str; 4] = ["attn_implementation", "token", "trust_remote_code", "use_safetensors"];

impl SentenceBertConfig {
    /// Reads the file from the Transformer module's folder.
    ///
    /// # Errors
    /// If the file is broken, or has a setting that is not supported.
    pub(crate) fn read(transformer: &Path) -> Result<SentenceBertConfig, LoadError> {
        for name in SENTENCE_BERT_CONFIGS {
            let Some(file) = ConfigFile::read(transformer.join(name))? else { continue };
            for (key, supported) in SWITCHES {
                if let Some(value) = file.text(key)?.filter(|value| *value != supported) {
                    return Err(file.unsupported(key, &value.into()));
                }
            }
            for key in SETTINGS {
                if let Some(value) = file.get(key).filter(|value| **value != Value::Object(Default::default())) {
                    return Err(file.unsupported(key, value));
                }
            }
            refuse_arguments(&file)?;
            return Ok(SentenceBertConfig {
                max_seq_length: file.count("max_seq_length", 1..=POSITIONS_MAX)?,
                lower_case: file.flag("do_lower_case")?,
                path: file.path,
            });
        }
        Ok(SentenceBertConfig::default())
    }
}

/// Refuses arguments for transformers that may change the vectors, and outputs other than the last layer's.
fn refuse_arguments(file: &ConfigFile) -> Result<(), LoadError> {
    for key in ARGUMENTS {
        let arguments = file.get(key).and_then(Value::as_object).into_iter().flatten();
        let mut harmful = arguments.filter(|(name, _)| !HARMLESS_ARGUMENTS.contains(&name.as_str()));
        if let Some((name, value)) = harmful.next() {
            return Err(file.unsupported(&format!("{key}.{name}"), value));
        }
    }
    let text = file.get("modality_config").and_then(|config| config.get("text"));
    for (key, supported) in [("method", "forward"), ("method_output_name", "last_hidden_state")] {
        if let Some(value) = text.and_then(|text| text.get(key)).filter(|value| *value != supported) {
            return Err(file.unsupported(&format!("modality_config.text.{key}"), value));
        }
    }
    Ok(())
}

//! config_sentence_transformers.json in, a model's prompts and the length that its vectors are truncated to out.
//!
//! A prompt is text that is prepended to every text. An explicit prompt wins over a name, and a name over the model's default.
//! A query gets the prompt named `query` or none, never the default, as in sentence-transformers' `encode_query`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config_file::ConfigFile;
use super::{LoadError, ModelConfig};

/// What the file says; the defaults if it does not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentenceTransformersConfig {
    path: PathBuf,
    /// The prompts by name, sorted by name.
    pub prompts: Vec<(String, String)>,
    /// The name of the default prompt.
    pub default_prompt_name: Option<String>,
    /// The number of values that vectors are truncated to.
    pub truncate_dim: Option<usize>,
}

/// Maximum length of a prompt, which is tokenised again with every text.
const PROMPT_BYTES_MAX: usize = 64 << 10;
/// Upper bound of `truncate_dim`. No vector is that long, so that a larger number would have no effect.
const TRUNCATE_DIM_MAX: usize = 1 << 30;

impl SentenceTransformersConfig {
    /// Reads the file from a model's folder.
    ///
    /// # Errors
    /// If the file is broken, or describes a cross encoder or a sparse encoder, which make no embeddings.
    pub(crate) fn read(folder: &Path) -> Result<SentenceTransformersConfig, LoadError> {
        // In the folder of a plain Hugging Face model, sentence-transformers ignores the file.
        if !folder.join("modules.json").is_file() {
            return Ok(SentenceTransformersConfig::default());
        }
        let Some(file) = ConfigFile::read(folder.join("config_sentence_transformers.json"))? else {
            return Ok(SentenceTransformersConfig::default());
        };
        if let Some(kind) = file.text("model_type")?.filter(|kind| *kind != "SentenceTransformer") {
            return Err(file.unexpected("model_type", &kind.into(), "\"SentenceTransformer\""));
        }
        let read = SentenceTransformersConfig {
            prompts: prompts(&file)?,
            default_prompt_name: file.text("default_prompt_name")?.map(str::to_owned),
            truncate_dim: file.count("truncate_dim", 1..=TRUNCATE_DIM_MAX)?,
            path: file.path.clone(),
        };
        if let Some(name) = read.default_prompt_name.as_ref().filter(|name| read.prompt(name).is_none()) {
            return Err(file.unexpected("default_prompt_name", &name.as_str().into(), "a name in \"prompts\""));
        }
        Ok(read)
    }

    fn prompt(&self, name: &str) -> Option<&str> {
        self.prompts.iter().find(|(known, _)| known == name).map(|(_, prompt)| prompt.as_str())
    }

    /// The prompt for queries.
    pub(crate) fn query_prompt(&self) -> &str {
        self.prompt("query").unwrap_or_default()
    }

    /// The prompt for texts: the pipeline file's, or the one that it names, or the model's default.
    ///
    /// # Errors
    /// If the model has no prompt of the name.
    pub(crate) fn prompt_for(&self, config: &ModelConfig) -> Result<String, LoadError> {
        if let Some(prompt) = &config.prompt {
            return Ok(prompt.clone());
        }
        let Some(name) = &config.prompt_name else {
            let default = self.default_prompt_name.as_ref().and_then(|name| self.prompt(name));
            return Ok(default.unwrap_or_default().to_owned());
        };
        match self.prompt(name) {
            Some(prompt) => Ok(prompt.to_owned()),
            None => Err(LoadError::Config { key: "model.prompt_name", message: self.unknown_prompt(name) }),
        }
    }

    fn unknown_prompt(&self, name: &str) -> String {
        let names: Vec<&str> = self.prompts.iter().map(|(name, _)| name.as_str()).collect();
        let path = self.path.display();
        if self.path.as_os_str().is_empty() {
            let missing = "the model has no config_sentence_transformers.json";
            return format!("unknown prompt {name:?}; expected none, since {missing} (set model.prompt instead)");
        }
        if names.is_empty() {
            return format!(
                "unknown prompt {name:?}; expected none, since {path} has no prompts (set model.prompt instead)"
            );
        }
        format!(
            "unknown prompt {name:?}; expected one of {} (of {path}; or set model.prompt instead)",
            names.join(", ")
        )
    }
}

/// The prompts by name, sorted by name. A null is an empty prompt.
fn prompts(file: &ConfigFile) -> Result<Vec<(String, String)>, LoadError> {
    let entries = match file.get("prompts") {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            return Err(file.unexpected("prompts", other, "an object of names and texts"));
        }
    };
    let prompt = |(name, value): (&String, &Value)| match value {
        Value::Null => Ok((name.clone(), String::new())),
        Value::String(text) if text.len() <= PROMPT_BYTES_MAX => Ok((name.clone(), text.clone())),
        Value::String(text) => {
            let key = format!("prompts.{name}");
            Err(file.error(format!("{key:?}: found {} bytes; expected at most {PROMPT_BYTES_MAX}", text.len())))
        }
        other => Err(file.unexpected(&format!("prompts.{name}"), other, "a string")),
    };
    let mut prompts = entries.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
    prompts.sort_unstable();
    Ok(prompts)
}

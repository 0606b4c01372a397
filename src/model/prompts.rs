//! config_sentence_transformers.json: a model's prompts, and to how many values its vectors are cut.
//!
//! A prompt is text that is put before every text. An explicit one wins over a name, a name over the model's default;
//! a query has the prompt named `query` or none, and never the default, as in sentence-transformers' `encode_query`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config_file::{ConfigFile, short};
use super::{LoadError, ModelConfig};

/// What the file says; nothing where there is none.
#[derive(Debug, Clone, Default)]
pub struct SentenceTransformers {
    path: PathBuf,
    /// Sorted by name.
    pub prompts: Vec<(String, String)>,
    pub default_prompt_name: Option<String>,
    pub truncate_dim: Option<usize>,
}

/// Longer prompts are texts of their own, and would be tokenised again with every text.
const PROMPT_BYTES_MAX: usize = 64 << 10;
/// More values than any vector has; a larger number is the same as none.
const TRUNCATE_DIM_MAX: usize = 1 << 30;

impl SentenceTransformers {
    /// # Errors
    /// Also for a model of another kind: a cross encoder's or a sparse encoder's files describe no vectors of texts.
    pub fn read(folder: &Path) -> Result<SentenceTransformers, LoadError> {
        // Beside a plain Hugging Face model sentence-transformers does not look at it.
        if !folder.join("modules.json").is_file() {
            return Ok(SentenceTransformers::default());
        }
        let Some(file) = ConfigFile::read(folder.join("config_sentence_transformers.json"))? else {
            return Ok(SentenceTransformers::default());
        };
        if let Some(kind) = file.text("model_type")?.filter(|kind| *kind != "SentenceTransformer") {
            return Err(file.error(format!("`model_type` is {kind:?}; only \"SentenceTransformer\" is supported")));
        }
        let read = SentenceTransformers {
            prompts: prompts(&file)?,
            default_prompt_name: file.text("default_prompt_name")?.map(str::to_owned),
            truncate_dim: file.count("truncate_dim", 1..=TRUNCATE_DIM_MAX)?,
            path: file.path.clone(),
        };
        if let Some(name) = read.default_prompt_name.as_ref().filter(|name| read.prompt(name).is_none()) {
            return Err(file.error(format!("`default_prompt_name` is {name:?}, but `prompts` has no such prompt")));
        }
        Ok(read)
    }

    fn prompt(&self, name: &str) -> Option<&str> {
        self.prompts.iter().find(|(known, _)| known == name).map(|(_, prompt)| prompt.as_str())
    }

    /// The prompt of queries.
    pub fn query(&self) -> &str {
        self.prompt("query").unwrap_or_default()
    }

    /// The prompt that texts get.
    pub fn choose(&self, config: &ModelConfig) -> Result<String, LoadError> {
        if let Some(prompt) = &config.prompt {
            return Ok(prompt.clone());
        }
        let Some(name) = &config.prompt_name else {
            let default = self.default_prompt_name.as_ref().and_then(|name| self.prompt(name));
            return Ok(default.unwrap_or_default().to_owned());
        };
        match self.prompt(name) {
            Some(prompt) => Ok(prompt.to_owned()),
            None => Err(LoadError::Config { key: "model.prompt_name", message: self.no_prompt(name) }),
        }
    }

    fn no_prompt(&self, name: &str) -> String {
        let names: Vec<&str> = self.prompts.iter().map(|(name, _)| name.as_str()).collect();
        let known = match (names.is_empty(), self.path.as_os_str().is_empty()) {
            (_, true) => "the model has no config_sentence_transformers.json and so no prompts".to_owned(),
            (true, false) => format!("{} has no prompts", self.path.display()),
            (false, false) => format!("{} has {}", self.path.display(), names.join(", ")),
        };
        format!("is {name:?}, but {known}; model.prompt gives one in words")
    }
}

fn prompts(file: &ConfigFile) -> Result<Vec<(String, String)>, LoadError> {
    let entries = match file.get("prompts") {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            return Err(file.error(format!("`prompts` must be an object of names and texts, found {}", short(other))));
        }
    };
    let prompt = |(name, value): (&String, &Value)| match value {
        Value::Null => Ok((name.clone(), String::new())),
        Value::String(text) if text.len() <= PROMPT_BYTES_MAX => Ok((name.clone(), text.clone())),
        Value::String(text) => {
            Err(file.error(format!("`prompts.{name}` has {} bytes, at most {PROMPT_BYTES_MAX} are taken", text.len())))
        }
        other => Err(file.error(format!("`prompts.{name}` must be a text, found {}", short(other)))),
    };
    let mut prompts = entries.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
    prompts.sort_unstable();
    Ok(prompts)
}

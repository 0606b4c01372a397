//! `model:` in the pipeline file: which model, and what overrides its own files. [`ModelConfig::check`] refuses what no model
//! can satisfy.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LoadError;
use super::pooling::{self, Pooling};
use crate::enum_names::enum_names;

/// `model:` in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A model id on the Hugging Face hub, or the path of a model folder. The hash backend does not need one.
    pub id: Option<String>,
    /// Branch, tag or commit of a model id. A folder ignores it.
    pub revision: String,
    /// What computes the vectors: `torch`, or `hash`, which needs neither libtorch nor weights and is for tests.
    pub backend: Backend,
    /// A TorchScript file (`torch.jit.save`), or an AOTInductor package (`.pt2`), that replaces the model's transformer. The
    /// tokenizer and the modules after it are those of `id`, a model folder. Loading the file executes the code in it: name only files that you trust.
    pub script: Option<PathBuf>,
    /// How token embeddings become one vector; the vectors of several modes are concatenated. Default: what the model's own
    /// files say.
    pub pooling: Option<Pooling>,
    /// `none` leaves out the model's Dense modules.
    pub dense: Option<DenseChoice>,
    /// Whether vectors are scaled to length 1 at the end, after `truncate_dim`. Default: what the model's own files say.
    pub normalize: Option<bool>,
    /// Keep only this many values of each vector, from its beginning. Default: what the model's own files say.
    pub truncate_dim: Option<usize>,
    /// Prepended to every text. Default: the prompt that `prompt_name` or the model's own files name.
    pub prompt: Option<String>,
    /// The name of the model's own prompt that is prepended to every text.
    pub prompt_name: Option<String>,
    /// Whether a prompt's tokens count in the pooling. Default: what the model's own files say.
    pub include_prompt: Option<bool>,
    /// For a model with a Router: the route that texts take, such as `query` or `document`. Default: the model's default route.
    pub route: Option<String>,
    /// Maximum number of tokens of a text, special tokens included. Longer texts are truncated, and the tokens cut off are counted.
    /// Default: the model's own limit.
    pub max_seq_length: Option<usize>,
    /// The precision that the transformer computes in: `float32`, `float16` on GPUs, or `bfloat16` on GPUs and CPUs. Pooling,
    /// modules and vectors are always float32.
    pub precision: Precision,
    /// The folder for downloaded models. Default: the cache that the Hugging Face tools share.
    pub cache: Option<PathBuf>,
    /// Never use the network. A model that is not in the cache is then an error.
    pub offline: bool,
    /// Threads of each CPU worker. Default: the cores that this process may use, divided among the CPU workers.
    pub threads: Option<usize>,
    /// Length of the hash backend's vectors.
    pub hash_dim: usize,
    /// `output.value`, which decides which modules are used. The plan sets it.
    #[serde(skip)]
    pub value: OutputValue,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            id: None,
            revision: "main".into(),
            backend: Backend::Torch,
            script: None,
            pooling: None,
            dense: None,
            normalize: None,
            truncate_dim: None,
            prompt: None,
            prompt_name: None,
            include_prompt: None,
            route: None,
            max_seq_length: None,
            precision: Precision::Float32,
            cache: None,
            offline: false,
            threads: None,
            hash_dim: 384,
            value: OutputValue::default(),
        }
    }
}

/// Maximum length of the hash backend's vectors. A longer one is a typing error, and would cost memory in every row.
const HASH_DIM_MAX: usize = 65_536;
/// Maximum number of threads of one worker. libtorch would start any number.
const THREADS_MAX: usize = 1_024;

impl ModelConfig {
    /// Refuses what can be refused without looking at the model.
    ///
    /// # Errors
    /// If a value is out of range, or two keys contradict each other.
    pub fn check(&self) -> Result<(), LoadError> {
        self.check_model()?;
        self.check_backend()?;
        self.check_output()?;
        self.check_limits()
    }

    /// The keys that say which model it is.
    fn check_model(&self) -> Result<(), LoadError> {
        if self.id.as_deref().is_some_and(|id| id.trim().is_empty()) {
            return refuse("model.id", "empty; expected a model id or the path of a model folder");
        }
        if self.backend == Backend::Torch && self.id.is_none() {
            return refuse("model.id", "missing; expected a model id or the path of a model folder");
        }
        if self.revision.is_empty() {
            return refuse("model.revision", "empty; expected a branch, tag or commit, such as \"main\"");
        }
        if self.prompt.is_some() && self.prompt_name.is_some() {
            return refuse("model.prompt_name", "set beside model.prompt; expected only one of them");
        }
        if self.id.is_none() {
            let of_a_model = [("model.prompt_name", self.prompt_name.is_some()), ("model.route", self.route.is_some())];
            if let Some((key, _)) = of_a_model.into_iter().find(|(_, is_set)| *is_set) {
                return refuse(key, "set without model.id; expected the model whose files it refers to");
            }
        }
        Ok(())
    }

    /// The keys that only one of the backends supports.
    fn check_backend(&self) -> Result<(), LoadError> {
        if self.script.is_some() && self.backend == Backend::Hash {
            return refuse("model.script", "not supported by the hash backend (leave it out)");
        }
        if self.precision != Precision::Float32 && (self.script.is_some() || self.backend == Backend::Hash) {
            let why = match self.backend {
                Backend::Hash => "the only precision of the hash backend",
                Backend::Torch => "since a script computes in the precision that it was saved in",
            };
            return refuse(
                "model.precision",
                format!("found {}; expected float32, {why} (leave it out)", self.precision),
            );
        }
        if self.truncate_dim.is_some() && self.backend == Backend::Hash {
            return refuse("model.truncate_dim", "not supported by the hash backend (set model.hash_dim instead)");
        }
        Ok(())
    }

    /// The keys about pooling and the modules after it.
    fn check_output(&self) -> Result<(), LoadError> {
        if let Some(Err(message)) = self.pooling.as_ref().map(|pooling| pooling::check(pooling.modes())) {
            return refuse("model.pooling", message);
        }
        if self.value == OutputValue::TokenEmbeddings {
            let of_sentences = [
                ("model.pooling", self.pooling.is_some()),
                ("model.truncate_dim", self.truncate_dim.is_some()),
                ("model.normalize", self.normalize == Some(true)),
                ("model.include_prompt", self.include_prompt.is_some()),
            ];
            if let Some((key, _)) = of_sentences.into_iter().find(|(_, is_set)| *is_set) {
                return refuse(
                    key,
                    "applies to sentence embeddings only, but output.value is token_embeddings (leave it out)",
                );
            }
        }
        if self.truncate_dim == Some(0) {
            return refuse("model.truncate_dim", "found 0; expected at least 1");
        }
        Ok(())
    }

    /// The keys that are numbers within bounds.
    fn check_limits(&self) -> Result<(), LoadError> {
        if self.max_seq_length == Some(0) {
            return refuse("model.max_seq_length", "found 0; expected at least 1");
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)) {
            return refuse("model.threads", format!("found {threads}; expected 1 to {THREADS_MAX}"));
        }
        if !(1..=HASH_DIM_MAX).contains(&self.hash_dim) {
            return refuse("model.hash_dim", format!("found {}; expected 1 to {HASH_DIM_MAX}", self.hash_dim));
        }
        Ok(())
    }

    /// What overrides the model's own files, in words, for `explain`.
    pub fn overrides(&self) -> String {
        let mut set = Vec::new();
        set.extend(self.route.as_ref().map(|route| format!("route {route}")));
        set.extend(self.script.as_ref().map(|file| format!("script {}", file.display())));
        set.extend(self.pooling.as_ref().map(|pooling| format!("{pooling} pooling")));
        set.extend(self.dense.map(|dense| format!("dense {dense}")));
        set.extend(self.truncate_dim.map(|dim| format!("first {dim} values")));
        set.extend(self.normalize.map(|normalize| if normalize { "normalised" } else { "not normalised" }.to_owned()));
        set.extend(self.prompt_name.as_ref().map(|name| format!("prompt named {name}")));
        set.extend(self.prompt.as_ref().map(|prompt| format!("prompt {prompt:?}")));
        set.extend(self.include_prompt.map(|include| format!("prompt {}pooled", if include { "" } else { "not " })));
        set.extend(self.max_seq_length.map(|length| format!("at most {length} tokens")));
        set.extend((self.precision != Precision::Float32).then(|| format!("in {}", self.precision)));
        set.into_iter().map(|part| format!(", {part}")).collect()
    }
}

/// The backend that computes the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// libtorch, with the model's weights.
    Torch,
    /// Hashes of the tokens. It is deterministic, and texts are close only if they share words.
    Hash,
}

/// The values of `model.dense`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DenseChoice {
    /// Leaves out the Dense modules.
    None,
}

/// The values of `output.value`, by sentence-transformers' names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputValue {
    /// One vector per text.
    #[default]
    SentenceEmbedding,
    /// One vector per token of each text, special tokens included.
    TokenEmbeddings,
}

/// The precision that the model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision, on every device.
    Float32,
    /// IEEE half precision, with an 11-bit significand and values up to 65,504. For GPUs.
    Float16,
    /// bfloat16, with an 8-bit significand and the range of float32. For GPUs, and for CPUs with instructions for it.
    Bfloat16,
}

enum_names!(Backend, "backend", Torch = "torch", Hash = "hash");
enum_names!(
    OutputValue,
    "output value",
    SentenceEmbedding = "sentence_embedding",
    TokenEmbeddings = "token_embeddings"
);
enum_names!(DenseChoice, "value of dense", None = "none");
enum_names!(Precision, "precision", Float32 = "float32", Float16 = "float16", Bfloat16 = "bfloat16");

fn refuse(key: &'static str, message: impl Into<String>) -> Result<(), LoadError> {
    Err(LoadError::Config { key, message: message.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_model_can_satisfy_is_refused() {
        let with = |change: fn(&mut ModelConfig)| {
            let mut config = ModelConfig { id: Some("a/b".into()), ..ModelConfig::default() };
            change(&mut config);
            config.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(with(|_| ()), "");
        assert_eq!(with(|c| c.id = None), "model.id: missing; expected a model id or the path of a model folder");
        assert_eq!(with(|c| (c.id, c.backend) = (None, Backend::Hash)), "");
        assert_eq!(
            with(|c| c.id = Some(" ".into())),
            "model.id: empty; expected a model id or the path of a model folder"
        );
        assert_eq!(
            with(|c| (c.precision, c.script) = (Precision::Float16, Some("m.pt".into()))),
            "model.precision: found float16; expected float32, since a script computes in the precision that it was saved in (leave it \
             out)"
        );
        assert_eq!(with(|c| c.max_seq_length = Some(0)), "model.max_seq_length: found 0; expected at least 1");
        assert_eq!(with(|c| c.threads = Some(0)), "model.threads: found 0; expected 1 to 1024");
        assert_eq!(
            with(|c| c.pooling = Some(Pooling::Several(Vec::new()))),
            "model.pooling: found no mode; expected at least one"
        );
        assert_eq!(
            with(|c| c.pooling = "max+cls+max".parse().ok()),
            "model.pooling: found max twice; expected each mode once"
        );
        assert_eq!(with(|c| c.truncate_dim = Some(0)), "model.truncate_dim: found 0; expected at least 1");
        assert_eq!(
            with(|c| (c.prompt, c.prompt_name) = (Some("a".into()), Some("b".into()))),
            "model.prompt_name: set beside model.prompt; expected only one of them"
        );
        assert_eq!(
            with(|c| (c.id, c.backend, c.route) = (None, Backend::Hash, Some("query".into()))),
            "model.route: set without model.id; expected the model whose files it refers to"
        );
        let set = ModelConfig {
            pooling: "cls+max".parse().ok(),
            dense: Some(DenseChoice::None),
            truncate_dim: Some(8),
            normalize: Some(true),
            prompt: Some("a: ".into()),
            include_prompt: Some(false),
            ..ModelConfig::default()
        };
        let expected = ", cls+max pooling, dense none, first 8 values, normalised, prompt \"a: \", prompt not pooled";
        assert_eq!((set.overrides().as_str(), ModelConfig::default().overrides().as_str()), (expected, ""));
        assert_eq!(with(|c| c.hash_dim = 0), "model.hash_dim: found 0; expected 1 to 65536");
    }
}

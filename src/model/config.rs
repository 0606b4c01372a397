//! `model:` in the pipeline file: which model, and what of it is set otherwise than its own files say.

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
    /// A model id on the Hugging Face hub, or the path of a model folder. The hash backend can do without.
    pub id: Option<String>,
    /// Branch, tag or commit of a model id; a folder has none.
    pub revision: String,
    /// What computes the vectors: `torch`, or `hash`, which needs neither libtorch nor weights and is for tests.
    pub backend: Backend,
    /// A TorchScript file (`torch.jit.save`), or a package of AOTInductor (`.pt2`), that stands in place of the model's
    /// transformer; the tokenizer and the modules after it are those of `id`, a model folder. Loading it runs the code in it: name only files that you trust.
    pub script: Option<PathBuf>,
    /// How token vectors become one vector; of several, the vectors are put side by side. Left out: what the model's own
    /// files say.
    pub pooling: Option<Pooling>,
    /// `none` leaves the model's Dense modules out.
    pub dense: Option<DenseChoice>,
    /// Whether vectors are scaled to length 1 in the end, after `truncate_dim`. Left out: what the model's own files say.
    pub normalize: Option<bool>,
    /// Only so many values of each vector are kept, from its beginning. Left out: what the model's own files say.
    pub truncate_dim: Option<usize>,
    /// Put before every text. Left out: the prompt that `prompt_name` or the model's own files name.
    pub prompt: Option<String>,
    /// Which of the model's own prompts is put before every text.
    pub prompt_name: Option<String>,
    /// Whether a prompt's tokens count in the pooling. Left out: what the model's own files say.
    pub include_prompt: Option<bool>,
    /// Of a model with a Router: which way texts go, such as `query` or `document`. Left out: the model's default.
    pub route: Option<String>,
    /// Most tokens of a text, special tokens included; what is longer is cut off and counted. Left out: the model's own.
    pub max_seq_length: Option<usize>,
    /// What the transformer computes in: `float16` on GPUs, `bfloat16` on GPUs and CPUs. Pooling, modules and vectors are in
    /// float32 in any case.
    pub precision: Precision,
    /// Where downloaded models are kept. Left out: the cache that the Hugging Face tools share.
    pub cache: Option<PathBuf>,
    /// Never use the network: the model is in the cache or it is an error.
    pub offline: bool,
    /// Threads of each CPU worker. Left out: the cores that this process may use, shared among the CPU workers.
    pub threads: Option<usize>,
    /// Length of the hash backend's vectors.
    pub hash_dim: usize,
    /// `output.value`, which decides what of the model is used; the plan sets it.
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

/// Longest vector of the hash backend; longer ones are a slip of the keyboard, and would cost memory a row.
const HASH_DIM_MAX: usize = 65_536;
/// Most threads of one worker; libtorch would start as many as it is told.
const THREADS_MAX: usize = 1_024;

impl ModelConfig {
    /// Refuses what can be refused without looking at the model.
    pub fn check(&self) -> Result<(), LoadError> {
        let refuse = |key, message: String| Err(LoadError::Config { key, message });
        if self.id.as_deref().is_some_and(|id| id.trim().is_empty()) {
            return refuse("model.id", "is empty; give a model id or the path of a model folder".into());
        }
        if self.backend == Backend::Torch && self.id.is_none() {
            return refuse("model.id", "is missing; give a model id or the path of a model folder".into());
        }
        if self.script.is_some() && self.backend == Backend::Hash {
            return refuse("model.script", "is given, but the hash backend has no use for it".into());
        }
        if self.precision != Precision::Float32 && (self.script.is_some() || self.backend == Backend::Hash) {
            let why = match self.backend {
                Backend::Hash => "the hash backend has only float32",
                Backend::Torch => "a script computes in what it was saved in",
            };
            return refuse("model.precision", format!("is {}, but {why}; leave it out", self.precision));
        }
        if self.revision.is_empty() {
            return refuse("model.revision", "is empty; the default is `main`".into());
        }
        if let Some(fault) = self.pooling.as_ref().and_then(|pooling| pooling::fault(pooling.modes())) {
            return refuse("model.pooling", fault);
        }
        if self.truncate_dim.is_some() && self.backend == Backend::Hash {
            return refuse("model.truncate_dim", "is given, but the hash backend has model.hash_dim for that".into());
        }
        if self.value == OutputValue::TokenEmbeddings {
            let of_a_text = [
                ("model.pooling", self.pooling.is_some()),
                ("model.truncate_dim", self.truncate_dim.is_some()),
                ("model.normalize", self.normalize == Some(true)),
                ("model.include_prompt", self.include_prompt.is_some()),
            ];
            if let Some((key, _)) = of_a_text.into_iter().find(|(_, given)| *given) {
                let why = "which is about a text's one vector; output.value is token_embeddings, which has none";
                return refuse(key, format!("is given, {why}"));
            }
        }
        if self.truncate_dim == Some(0) {
            return refuse("model.truncate_dim", "is 0; a vector needs at least one value".into());
        }
        if self.prompt.is_some() && self.prompt_name.is_some() {
            return refuse("model.prompt_name", "is given beside model.prompt; give one of them".into());
        }
        if self.id.is_none() {
            let of_a_model = [("model.prompt_name", self.prompt_name.is_some()), ("model.route", self.route.is_some())];
            if let Some((key, _)) = of_a_model.into_iter().find(|(_, given)| *given) {
                return refuse(key, "is given, but there is no model.id whose files it is about".into());
            }
        }
        if self.max_seq_length == Some(0) {
            return refuse("model.max_seq_length", "is 0; a text needs at least one token".into());
        }
        if !self.threads.is_none_or(|threads| (1..=THREADS_MAX).contains(&threads)) {
            return refuse("model.threads", format!("must be 1 to {THREADS_MAX}"));
        }
        if !(1..=HASH_DIM_MAX).contains(&self.hash_dim) {
            return refuse("model.hash_dim", format!("is {}; it must be 1 to {HASH_DIM_MAX}", self.hash_dim));
        }
        Ok(())
    }
}

impl ModelConfig {
    /// What is set otherwise than the model's own files may say, for `explain`.
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

/// What computes the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// libtorch, with the model's weights.
    Torch,
    /// Hashes of the tokens: deterministic, and close only where words are shared.
    Hash,
}

/// What `model.dense` can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DenseChoice {
    /// Dense modules are left out.
    None,
}

/// `output.value`, by sentence-transformers' names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputValue {
    /// A vector a text.
    #[default]
    SentenceEmbedding,
    /// The vectors of each text's own tokens, special tokens included.
    TokenEmbeddings,
}

/// What the model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Float32,
    /// 11 digits of 2, up to 65,504: on GPUs.
    Float16,
    /// 8 digits of 2, the range of float32: on GPUs, and on CPUs that have it.
    Bfloat16,
}

enum_names!(Backend, "backend", Torch = "torch", Hash = "hash");
enum_names!(
    OutputValue,
    "output value",
    SentenceEmbedding = "sentence_embedding",
    TokenEmbeddings = "token_embeddings"
);
enum_names!(DenseChoice, "choice for dense", None = "none");
enum_names!(Precision, "precision", Float32 = "float32", Float16 = "float16", Bfloat16 = "bfloat16");

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
        assert_eq!(with(|c| c.id = None), "model.id is missing; give a model id or the path of a model folder");
        assert_eq!(with(|c| (c.id, c.backend) = (None, Backend::Hash)), "");
        assert_eq!(
            with(|c| c.id = Some(" ".into())),
            "model.id is empty; give a model id or the path of a model folder"
        );
        assert_eq!(
            with(|c| (c.precision, c.script) = (Precision::Float16, Some("m.pt".into()))),
            "model.precision is float16, but a script computes in what it was saved in; leave it out"
        );
        assert_eq!(with(|c| c.max_seq_length = Some(0)), "model.max_seq_length is 0; a text needs at least one token");
        assert_eq!(with(|c| c.threads = Some(0)), "model.threads must be 1 to 1024");
        assert_eq!(with(|c| c.pooling = Some(Pooling::Several(Vec::new()))), "model.pooling names no mode");
        assert_eq!(with(|c| c.pooling = "max+cls+max".parse().ok()), "model.pooling names max twice");
        assert_eq!(with(|c| c.truncate_dim = Some(0)), "model.truncate_dim is 0; a vector needs at least one value");
        assert_eq!(
            with(|c| (c.prompt, c.prompt_name) = (Some("a".into()), Some("b".into()))),
            "model.prompt_name is given beside model.prompt; give one of them"
        );
        assert_eq!(
            with(|c| (c.id, c.backend, c.route) = (None, Backend::Hash, Some("query".into()))),
            "model.route is given, but there is no model.id whose files it is about"
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
        assert_eq!(with(|c| c.hash_dim = 0), "model.hash_dim is 0; it must be 1 to 65536");
    }
}

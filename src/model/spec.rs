//! Everything about a model that is known before its weights are loaded, checked, and how it is described to users.
//!
//! `read.rs` makes a [`ModelSpec`] from a model folder; [`ModelSpec::hash_backend`] makes one without a model.

use std::path::PathBuf;

use super::chain::Module;
use super::config_file::ConfigFile;
use super::script::Script;
use super::{Backend, DenseChoice, ModelConfig, OutputValue, PoolingMode, Precision, pooling};

/// What a model is. All of it is checked; the weights are not loaded yet.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// What computes the vectors.
    pub backend: Backend,
    /// The model id or path from the pipeline file. A model id is complete: it has its organisation.
    pub id: String,
    /// The commit of a model id; `None` for a folder.
    pub revision: Option<String>,
    /// The model folder; `None` for the hash backend without a model.
    pub folder: Option<PathBuf>,
    /// The folder of config.json, tokenizer.json and the transformer's weights: the model folder, or a folder in it.
    pub transformer: Option<PathBuf>,
    /// config.json. Each family reads its own keys from it.
    pub config: Option<ConfigFile>,
    /// `model_type` of config.json, `torchscript`, `aotinductor`, or `hash`.
    pub family: String,
    /// The script in place of the transformer, if the user names one.
    pub script: Option<Script>,
    /// The files of the transformer's weights, sorted by name; for a script, its file.
    pub weights: Vec<PathBuf>,
    /// The hash of `weights`, as `files::sha256` makes it.
    pub weights_sha256: Option<String>,
    /// Length of a token's vector, as the transformer returns it.
    pub hidden: usize,
    /// Length of an output vector, after all modules.
    pub dim: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The number of rows of the word embedding. Every token id is below it.
    pub vocab_size: usize,
    /// The modules after the transformer. Exactly one is a Pooling, except for token embeddings and for a script that returns
    /// sentence embeddings, where none is.
    pub chain: Vec<Module>,
    /// Whether a text gets one vector, or each of its tokens does.
    pub value: OutputValue,
    /// The hash of the modules' own weights, as `files::sha256` makes it; `None` if no module has any.
    pub modules_sha256: Option<String>,
    /// Whether the pipeline file leaves the model's Dense modules out.
    pub dense_left_out: bool,
    /// The route through the model's Router, if the pipeline file names one.
    pub route: Option<String>,
    /// The maximum number of tokens of a text, special tokens included. Longer texts are truncated.
    pub max_seq_length: usize,
    /// Prepended to every text.
    pub prompt: String,
    /// The model's own prompts by name, sorted by name.
    pub prompts: Vec<(String, String)>,
    /// The name of the model's default prompt.
    pub default_prompt_name: Option<String>,
    /// Whether the prompt's tokens count in the pooling.
    pub include_prompt: bool,
    /// How many tokens at the beginning of a text the pooling leaves out because they are the prompt's.
    pub prompt_tokens: usize,
    /// Whether texts are lowercased before the tokenizer's own normalizer (`do_lower_case` of sentence_bert_config.json).
    pub lower_case: bool,
    /// The precision that the transformer computes in; for a script, the precision of what it returns.
    pub precision: Precision,
    /// The number of threads of a CPU worker, if the pipeline file sets it.
    pub threads: Option<usize>,
}

/// Maximum length of a text for the whitespace tokenizer where nothing else limits it.
pub(crate) const HASH_MAX_SEQ_LENGTH: usize = 512;
/// Number of token ids of the whitespace tokenizer. Batches hold ids as i32, so ids stay below 2^31.
pub(crate) const HASH_VOCAB_SIZE: usize = 1 << 31;

impl ModelSpec {
    /// The hash backend without a model: the whitespace tokenizer, and vectors of `hash_dim` values.
    pub fn hash_backend(config: &ModelConfig) -> ModelSpec {
        let chain = match config.value {
            OutputValue::SentenceEmbedding => {
                vec![Module::Pooling { modes: vec![PoolingMode::Mean] }, Module::Normalize]
            }
            OutputValue::TokenEmbeddings => Vec::new(),
        };
        ModelSpec {
            backend: Backend::Hash,
            id: "hash".into(),
            revision: None,
            folder: None,
            transformer: None,
            config: None,
            family: "hash".into(),
            script: None,
            weights: Vec::new(),
            weights_sha256: None,
            hidden: config.hash_dim,
            dim: config.hash_dim,
            layers: 0,
            vocab_size: HASH_VOCAB_SIZE,
            chain,
            value: config.value,
            modules_sha256: None,
            dense_left_out: false,
            route: None,
            max_seq_length: config.max_seq_length.unwrap_or(HASH_MAX_SEQ_LENGTH),
            prompt: config.prompt.clone().unwrap_or_default(),
            prompts: Vec::new(),
            default_prompt_name: None,
            include_prompt: true,
            prompt_tokens: 0,
            lower_case: false,
            precision: Precision::Float32,
            threads: None,
        }
    }

    /// The pooling modes by sentence-transformers' names, joined by `+`; empty without a Pooling.
    pub fn pooling(&self) -> String {
        let modes = self.chain.iter().find_map(|module| match module {
            Module::Pooling { modes } => Some(pooling::join(modes)),
            _ => None,
        });
        modes.unwrap_or_default()
    }

    /// Whether the chain ends in a Normalize, so that every vector has length 1.
    pub fn normalize(&self) -> bool {
        self.chain.last() == Some(&Module::Normalize)
    }

    /// The number of values that vectors are truncated to, if they are.
    pub fn truncate_dim(&self) -> Option<usize> {
        self.chain.iter().find_map(|module| match module {
            Module::Truncate { dim } => Some(*dim),
            _ => None,
        })
    }

    /// The line of `explain` about the model.
    pub fn describe(&self) -> String {
        let revision = self.revision.as_deref().map(|commit| format!("@{commit:.12}")).unwrap_or_default();
        let computation = match self.backend {
            Backend::Hash => format!("hash encoder, {} dims", self.dim),
            Backend::Torch => {
                let model = match &self.script {
                    None => format!("{}, {} layers", self.family, self.layers),
                    Some(script) => format!("{} {}", self.family, script.file.display()),
                };
                let modules = match (self.modules(), self.value) {
                    (none, OutputValue::SentenceEmbedding) if none.is_empty() => "no modules after it".to_owned(),
                    (none, OutputValue::TokenEmbeddings) if none.is_empty() => "token embeddings".to_owned(),
                    (modules, OutputValue::SentenceEmbedding) => modules,
                    (modules, OutputValue::TokenEmbeddings) => format!("token embeddings, {modules}"),
                };
                format!("{model}, {} dims, {modules}, {}", self.dim, self.precision)
            }
        };
        let route = self.route.as_ref().map(|route| format!(", route {route}")).unwrap_or_default();
        let pooled = if self.include_prompt { "" } else { " (not pooled)" };
        let prompt = if self.prompt.is_empty() { String::new() } else { format!(", prompt {:?}{pooled}", self.prompt) };
        format!("{}{revision}: {computation}, at most {} tokens{route}{prompt}", self.id, self.max_seq_length)
    }

    /// The modules after the transformer, in words.
    pub fn modules(&self) -> String {
        self.chain.iter().map(|module| module.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Everything that determines the vectors, as names and values for the output's metadata, in a fixed order. Values that
    /// the model does not have are absent.
    pub fn provenance(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("backend", self.backend.to_string()),
            ("model_id", self.id.clone()),
            ("model_family", self.family.clone()),
        ];
        pairs.extend(self.revision.clone().map(|revision| ("model_revision", revision)));
        pairs.extend(self.weights_sha256.clone().map(|hash| ("weights_sha256", hash)));
        pairs.extend(self.route.clone().map(|route| ("route", route)));
        // Only the file's name: its folder would tell readers of the vectors about this machine.
        let name = self.script.as_ref().and_then(|script| script.file.file_name());
        pairs.extend(name.map(|name| ("script", name.to_string_lossy().into_owned())));
        match self.value {
            OutputValue::SentenceEmbedding => pairs.push(("pooling", self.pooling())),
            OutputValue::TokenEmbeddings => pairs.push(("output_value", self.value.to_string())),
        }
        pairs.push(("modules", self.modules()));
        pairs.extend(self.modules_sha256.clone().map(|hash| ("modules_sha256", hash)));
        if self.dense_left_out {
            pairs.push(("dense", DenseChoice::None.to_string()));
        }
        if let Some(dim) = self.truncate_dim() {
            pairs.push(("truncate_dim", dim.to_string()));
        }
        pairs.push(("normalize", self.normalize().to_string()));
        pairs.push(("dim", self.dim.to_string()));
        pairs.push(("max_seq_length", self.max_seq_length.to_string()));
        pairs.push(("prompt", self.prompt.clone()));
        pairs.push(("include_prompt", self.include_prompt.to_string()));
        pairs.push(("precision", self.precision.to_string()));
        pairs
    }
}

//! A model folder in, a checked [`ModelSpec`] out: what the model is, before libtorch or a weight is touched.
//!
//! sentence-transformers describes a model as a chain of modules (modules.json): a transformer, a pooling, and what comes
//! before and after. Two generations of names are about and both are read; a folder without modules.json is a plain Hugging
//! Face model. A module, mode or switch that changes the numbers and is not supported is refused by name, with its file: a
//! wrong vector is worse than none.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::chain::{Chain, Module};
use super::config_file::{ConfigFile, short};
use super::files;
use super::hub::ModelFolder;
use super::module_classes::ModuleClass;
use super::modules_json::{self, ModuleEntry};
use super::prompts::SentenceTransformers;
use super::script::{self, OutputKind, Script};
use super::{Backend, LoadError, ModelConfig, ModelRuntime, OutputValue, PoolingMode, Precision, pooling};

/// What a model is. Everything is checked; the weights are not loaded.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    pub backend: Backend,
    /// As the user gave it: a model id or a path.
    pub id: String,
    /// The commit of a model id; none for a folder.
    pub revision: Option<String>,
    /// The model folder; none for the hash backend without a model.
    pub folder: Option<PathBuf>,
    /// Where config.json, tokenizer.json and the weights are: the folder, or a folder in it.
    pub transformer: Option<PathBuf>,
    /// config.json as it is; the family reads its own keys from it.
    pub config: Option<ConfigFile>,
    /// `model_type` of config.json, `torchscript`, `aotinductor`, or `hash`.
    pub family: String,
    /// The TorchScript file in place of the transformer, where the user named one, and what it gives.
    pub script: Option<Script>,
    /// Files of the weights, sorted by name; of a script, its file.
    pub weights: Vec<PathBuf>,
    /// See [`ModelSpec::provenance`]; of a single file, what the hub shows for it.
    pub weights_sha256: Option<String>,
    /// Length of a token's vector.
    pub hidden: usize,
    /// Length of a text's vector.
    pub dim: usize,
    pub layers: usize,
    /// Rows of the word embedding; every token id is below it.
    pub vocab_size: usize,
    /// What happens to the transformer's vectors; exactly one of them is a Pooling, but where token vectors are wanted, and
    /// for a script that pools by itself.
    pub chain: Vec<Module>,
    /// Whether a text gets one vector, or one for each of its tokens.
    pub value: OutputValue,
    /// Hash of the modules' own weights, as [`files::sha256`] makes it; none where no module has any.
    pub modules_sha256: Option<String>,
    /// Whether the model's Dense modules were left out.
    pub dense_left_out: bool,
    /// The way through the model's Router, where one was chosen.
    pub route: Option<String>,
    /// Most tokens of a text, special tokens included.
    pub max_seq_length: usize,
    /// Put before every text.
    pub prompt: String,
    /// The model's own prompts by name, and which of them is its default.
    pub prompts: Vec<(String, String)>,
    pub default_prompt_name: Option<String>,
    /// Whether the prompt's tokens count in the pooling.
    pub include_prompt: bool,
    /// How many tokens at a text's beginning do not, where they do not.
    pub prompt_tokens: usize,
    /// Texts are lowered before the tokenizer's own rules (`do_lower_case` of sentence_bert_config.json).
    pub lower_case: bool,
    /// What the model computes in; of a script, what it gives.
    pub precision: Precision,
    /// Threads of a CPU worker, where set.
    pub threads: Option<usize>,
}

const VOCAB_MAX: usize = 10_000_000;
const POSITIONS_MAX: usize = 10_000_000;
/// Longest sequence of the words tokenizer where nothing says otherwise.
const WORDS_LENGTH: usize = 512;
/// Token ids travel as i32 beyond the batch, so they stay below this.
pub const WORDS_VOCAB: usize = 1 << 31;

impl ModelSpec {
    /// The hash backend without a model: the words tokenizer and `hash_dim`.
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
            vocab_size: WORDS_VOCAB,
            chain,
            value: config.value,
            modules_sha256: None,
            dense_left_out: false,
            route: None,
            max_seq_length: config.max_seq_length.unwrap_or(WORDS_LENGTH),
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

    /// Reads a model folder, with the pipeline file's overrides. The hash backend takes only what it needs of it: the
    /// tokenizer, its length and the prompt.
    pub fn read(
        folder: &ModelFolder,
        config: &ModelConfig,
        runtime: &dyn ModelRuntime,
    ) -> Result<ModelSpec, LoadError> {
        let path = folder.path.as_path();
        let own = SentenceTransformers::read(path)?;
        let entries = modules_json::route(path, config.route.as_deref())?.map(|route| route.entries);
        let transformer = match &entries {
            None => path.to_owned(),
            Some(entries) => transformer_of(path, entries)?,
        };
        let sentence = SentenceConfig::read(&transformer)?;
        let mut spec = ModelSpec {
            id: folder.id.clone(),
            revision: folder.revision.clone(),
            folder: Some(path.to_owned()),
            config: ConfigFile::read(transformer.join("config.json"))?,
            prompt: own.choose(config)?,
            lower_case: sentence.lower_case,
            threads: config.threads,
            precision: config.precision,
            route: config.route.clone(),
            ..ModelSpec::hash_backend(config)
        };
        let adapter = transformer.join("adapter_config.json");
        if config.backend == Backend::Torch && adapter.is_file() {
            let message = "the model has an adapter, which this version does not support; merge it into the weights \
                           (peft: merge_and_unload) and save the model";
            return Err(LoadError::model(&adapter, message));
        }
        if let (Backend::Torch, Some(file)) = (config.backend, &config.script) {
            spec.backend = Backend::Torch;
            spec.max_seq_length = max_seq_length(&transformer, &sentence, spec.config.as_ref(), config, runtime)?;
            spec.transformer = Some(transformer.clone());
            match spec.read_script(file, runtime)? {
                OutputKind::TokenVectors => spec.read_chain(path, entries.as_deref(), own.truncate_dim, config)?,
                OutputKind::TextVectors => spec.set_chain(Chain::of_texts(spec.hidden, own.truncate_dim, config)?)?,
            }
        } else if config.backend == Backend::Torch {
            spec.backend = Backend::Torch;
            spec.read_model(&transformer, runtime)?;
            spec.read_chain(path, entries.as_deref(), own.truncate_dim, config)?;
            spec.weights = files::weights(&transformer)?;
            spec.weights_sha256 = Some(files::sha256(&spec.weights)?);
        } else if let Some(file) = &spec.config {
            spec.vocab_size = file.count("vocab_size", 1..=VOCAB_MAX)?.unwrap_or(WORDS_VOCAB);
        }
        spec.max_seq_length = max_seq_length(&transformer, &sentence, spec.config.as_ref(), config, runtime)?;
        spec.transformer = Some(transformer);
        (spec.prompts, spec.default_prompt_name) = (own.prompts, own.default_prompt_name);
        Ok(spec)
    }

    /// What only a real model has: family and sizes.
    fn read_model(&mut self, transformer: &Path, runtime: &dyn ModelRuntime) -> Result<(), LoadError> {
        let Some(file) = &self.config else {
            let message = "is missing; a model folder has config.json, and modules.json where it is a \
                           sentence-transformers model";
            return Err(LoadError::model(transformer.join("config.json"), message));
        };
        let family = file.text("model_type")?.ok_or_else(|| file.error("`model_type` is missing"))?;
        let sizes = runtime.check(family, file)?;
        self.family = family.to_owned();
        (self.hidden, self.layers, self.vocab_size) = (sizes.hidden, sizes.layers, sizes.vocab_size);
        Ok(())
    }

    /// What a script is: its hash, and what it gives for two texts. This runs its code.
    fn read_script(&mut self, file: &Path, runtime: &dyn ModelRuntime) -> Result<OutputKind, LoadError> {
        let refuse = |message: String| LoadError::Config { key: "model.script", message };
        match std::fs::metadata(file) {
            Err(error) => return Err(refuse(format!("{} cannot be read: {error}", file.display()))),
            Ok(found) if !found.is_file() => {
                return Err(refuse(format!("{} is no file; expected a TorchScript file", file.display())));
            }
            Ok(_) => {}
        }
        self.family = script::Kind::of(file).family().into();
        self.weights = vec![file.to_owned()];
        self.weights_sha256 = Some(files::sha256(&self.weights)?);
        self.vocab_size = match &self.config {
            Some(file) => file.count("vocab_size", 1..=VOCAB_MAX)?.unwrap_or(WORDS_VOCAB),
            None => WORDS_VOCAB,
        };
        let tokenizer = crate::model::tokenizer::Tokenizer::load(self)?;
        let (pad_id, trial) = (tokenizer.pad_id(self.config.as_ref())?, tokenizer.trial()?);
        let script = Script { file: file.to_owned(), pad_id, trial };
        let given = runtime.try_script(&script)?;
        (self.script, self.hidden, self.precision) = (Some(script), given.width, given.precision);
        Ok(given.what)
    }

    /// The modules after the transformer, and the hash of their weights.
    fn read_chain(
        &mut self,
        folder: &Path,
        entries: Option<&[ModuleEntry]>,
        truncate_dim: Option<usize>,
        config: &ModelConfig,
    ) -> Result<(), LoadError> {
        let file = self.config.as_ref();
        let chain = match entries {
            None => Some(Chain::plain(file, self.hidden, config)?),
            Some([_, after @ ..]) => {
                let all_layers = match file {
                    Some(file) => file.flag("output_hidden_states")?.then_some(self.layers),
                    None => None,
                };
                let weighs = |entry: &ModuleEntry| entry.class == Some(ModuleClass::WeightedLayerPooling);
                if all_layers.is_some() && self.script.is_some() && after.iter().any(weighs) {
                    let message =
                        "gives the last layer's vectors, but the model's WeightedLayerPooling needs those of all"
                            .into();
                    return Err(LoadError::Config { key: "model.script", message });
                }
                Chain::read(folder, after, (self.hidden, all_layers), truncate_dim, config)?
            }
            _ => None,
        };
        let Some(chain) = chain else { return Err(no_pooling(folder)) };
        self.dense_left_out = config.dense.is_some();
        self.set_chain(chain)?;
        // Its files do not say so, but the library has it by these names.
        if config.include_prompt.is_none() && INSTRUCTORS.contains(&self.id.as_str()) {
            self.include_prompt = false;
        }
        Ok(())
    }

    fn set_chain(&mut self, chain: Chain) -> Result<(), LoadError> {
        let weights = chain.weights();
        if !weights.is_empty() {
            self.modules_sha256 = Some(files::sha256(&weights)?);
        }
        (self.chain, self.dim, self.include_prompt) = (chain.modules, chain.dim, chain.include_prompt);
        Ok(())
    }

    /// The pooling as sentence-transformers names it; several modes joined by `+`.
    pub fn pooling(&self) -> String {
        let modes = self.chain.iter().find_map(|module| match module {
            Module::Pooling { modes } => Some(pooling::joined(modes)),
            _ => None,
        });
        modes.unwrap_or_default()
    }

    /// Whether every vector has length 1.
    pub fn normalize(&self) -> bool {
        self.chain.last() == Some(&Module::Normalize)
    }

    /// To how many values vectors are cut, where they are.
    pub fn truncated(&self) -> Option<usize> {
        self.chain.iter().find_map(|module| match module {
            Module::Truncate { dim } => Some(*dim),
            _ => None,
        })
    }

    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let revision = self.revision.as_deref().map(|commit| format!("@{commit:.12}")).unwrap_or_default();
        let what = match self.backend {
            Backend::Hash => format!("hash encoder, {} dims", self.dim),
            Backend::Torch => {
                let model = match &self.script {
                    None => format!("{}, {} layers", self.family, self.layers),
                    Some(script) => format!("{} {}", self.family, script.file.display()),
                };
                let modules = match (self.modules(), self.value) {
                    (none, OutputValue::SentenceEmbedding) if none.is_empty() => "vectors as it gives them".to_owned(),
                    (none, OutputValue::TokenEmbeddings) if none.is_empty() => "a vector a token".to_owned(),
                    (modules, OutputValue::SentenceEmbedding) => modules,
                    (modules, OutputValue::TokenEmbeddings) => format!("a vector a token, {modules}"),
                };
                format!("{model}, {} dims, {modules}, {}", self.dim, self.precision)
            }
        };
        let route = self.route.as_ref().map(|route| format!(", route {route}")).unwrap_or_default();
        let pooled = if self.include_prompt { "" } else { " (not pooled)" };
        let prompt = if self.prompt.is_empty() { String::new() } else { format!(", prompt {:?}{pooled}", self.prompt) };
        format!("{}{revision}: {what}, at most {} tokens{route}{prompt}", self.id, self.max_seq_length)
    }

    /// The chain in words.
    fn modules(&self) -> String {
        self.chain.iter().map(|module| module.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// What says which vectors these are: names and values for the output's metadata, in a fixed order. What a model does
    /// not have is left out.
    pub fn provenance(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("backend", self.backend.to_string()),
            ("model_id", self.id.clone()),
            ("model_family", self.family.clone()),
        ];
        pairs.extend(self.revision.clone().map(|revision| ("model_revision", revision)));
        pairs.extend(self.weights_sha256.clone().map(|hash| ("weights_sha256", hash)));
        pairs.extend(self.route.clone().map(|route| ("route", route)));
        // The name alone: where the file lay is no business of whoever reads the vectors.
        let name = self.script.as_ref().and_then(|script| script.file.file_name());
        pairs.extend(name.map(|name| ("script", name.to_string_lossy().into_owned())));
        match self.value {
            OutputValue::SentenceEmbedding => pairs.push(("pooling", self.pooling())),
            OutputValue::TokenEmbeddings => pairs.push(("output_value", self.value.to_string())),
        }
        pairs.push(("modules", self.modules()));
        pairs.extend(self.modules_sha256.clone().map(|hash| ("modules_sha256", hash)));
        if self.dense_left_out {
            pairs.push(("dense", crate::model::DenseChoice::None.to_string()));
        }
        if let Some(dim) = self.truncated() {
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

/// Models of the library's own list, whose prompts it leaves out of the pooling.
const INSTRUCTORS: [&str; 3] = ["hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl"];

/// The folder of the transformer, which comes first.
fn transformer_of(folder: &Path, entries: &[ModuleEntry]) -> Result<PathBuf, LoadError> {
    match entries.first() {
        Some(first) if first.class == Some(ModuleClass::Transformer) && first.path.is_empty() => Ok(folder.to_owned()),
        Some(first) if first.class == Some(ModuleClass::Transformer) => Ok(folder.join(&first.path)),
        Some(first) => Err(first.refuse("but the first module must be a Transformer in this version")),
        None => Err(no_pooling(folder)),
    }
}

fn no_pooling(folder: &Path) -> LoadError {
    LoadError::model(folder.join("modules.json"), "must list a Transformer and a Pooling module")
}

/// sentence_bert_config.json: how the Transformer module treats text.
#[derive(Default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    lower_case: bool,
    path: PathBuf,
}

/// The file's names through the years; the first that is there counts.
pub const SENTENCE_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Switches that change the vectors and have one value that this version knows.
const SENTENCE_SWITCHES: [(&str, &str); 3] = [
    ("transformer_task", "feature-extraction"),
    ("module_output_name", "token_embeddings"),
    ("tokenizer_name_or_path", ""),
];

/// What sentence-transformers hands on to transformers when it loads the model.
const ARGUMENTS: [&str; 7] = [
    "config_args",
    "config_kwargs",
    "model_args",
    "model_kwargs",
    "processor_kwargs",
    "tokenizer_args",
    "tokenizer_kwargs",
];
/// Those that change no vector.
const HARMLESS: [&str; 4] = ["attn_implementation", "token", "trust_remote_code", "use_safetensors"];

/// Arguments for transformers, and another way through the model than the one to its last layer, change the vectors.
fn refuse_arguments(file: &ConfigFile) -> Result<(), LoadError> {
    let unsupported = |key: &str, value: &Value| {
        Err(file.error(format!("`{key}` is {}, which this version does not support", short(value))))
    };
    for key in ARGUMENTS {
        let arguments = file.get(key).and_then(Value::as_object).into_iter().flatten();
        if let Some((name, value)) = arguments.into_iter().find(|(name, _)| !HARMLESS.contains(&name.as_str())) {
            return unsupported(&format!("{key}.{name}"), value);
        }
    }
    let text = file.get("modality_config").and_then(|config| config.get("text"));
    for (key, known) in [("method", "forward"), ("method_output_name", "last_hidden_state")] {
        if let Some(value) = text.and_then(|text| text.get(key)).filter(|value| *value != known) {
            return unsupported(&format!("modality_config.text.{key}"), value);
        }
    }
    Ok(())
}

impl SentenceConfig {
    fn read(transformer: &Path) -> Result<SentenceConfig, LoadError> {
        for name in SENTENCE_CONFIGS {
            let Some(file) = ConfigFile::read(transformer.join(name))? else { continue };
            for (key, known) in SENTENCE_SWITCHES {
                if let Some(value) = file.text(key)?.filter(|value| *value != known) {
                    return Err(file.error(format!("`{key}` is {value:?}, which this version does not support")));
                }
            }
            for key in ["processing_kwargs", "query_expansion", "query_length", "document_length"] {
                if let Some(value) = file.get(key).filter(|value| **value != Value::Object(Default::default())) {
                    return Err(file.error(format!("`{key}` is {}, which this version does not support", short(value))));
                }
            }
            refuse_arguments(&file)?;
            return Ok(SentenceConfig {
                max_seq_length: file.count("max_seq_length", 1..=POSITIONS_MAX)?,
                lower_case: file.flag("do_lower_case")?,
                path: file.path,
            });
        }
        Ok(SentenceConfig::default())
    }
}

/// Most tokens of a text: the pipeline file's, else sentence_bert_config.json's, else the smaller of the tokenizer's and
/// the model's. Never more than the model has positions.
fn max_seq_length(
    transformer: &Path,
    sentence: &SentenceConfig,
    file: Option<&ConfigFile>,
    config: &ModelConfig,
    runtime: &dyn ModelRuntime,
) -> Result<usize, LoadError> {
    let positions = match (file, config.backend) {
        // A script may be of a family that is not here, or of none.
        (Some(file), Backend::Torch) if config.script.is_some() => {
            match runtime.check(file.text("model_type")?.unwrap_or_default(), file) {
                Ok(sizes) => sizes.positions,
                Err(_) => file.count("max_position_embeddings", 1..=POSITIONS_MAX)?,
            }
        }
        (Some(file), Backend::Torch) => runtime.check(file.text("model_type")?.unwrap_or_default(), file)?.positions,
        (Some(file), Backend::Hash) => file.count("max_position_embeddings", 1..=POSITIONS_MAX)?,
        (None, _) => None,
    };
    let positions_max = positions.unwrap_or(POSITIONS_MAX);
    if let Some(length) = config.max_seq_length {
        if length > positions_max {
            let message = format!("is {length}, but the model has positions for {positions_max} tokens");
            return Err(LoadError::Config { key: "model.max_seq_length", message });
        }
        return Ok(length);
    }
    if let Some(length) = sentence.max_seq_length {
        if length > positions_max {
            let message =
                format!("`max_seq_length` is {length}, but the model has positions for {positions_max} tokens");
            return Err(LoadError::model(&sentence.path, message));
        }
        return Ok(length);
    }
    let tokenizer = ConfigFile::read(transformer.join("tokenizer_config.json"))?;
    let length = match &tokenizer {
        // "No limit" is written as 1e30, so this is a float to begin with.
        Some(file) => {
            file.number("model_max_length")?.filter(|length| *length >= 1.0 && *length <= POSITIONS_MAX as f64)
        }
        None => None,
    };
    match (length.map(|length| length as usize), positions) {
        (Some(length), _) => Ok(length.min(positions_max)),
        (None, Some(positions)) => Ok(positions),
        (None, None) if config.backend == Backend::Hash => Ok(WORDS_LENGTH),
        (None, None) => {
            let message = "neither it nor its tokenizer says how long a text may be; set model.max_seq_length";
            Err(LoadError::model(transformer, message))
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "chain_tests.rs"]
mod chain_tests;

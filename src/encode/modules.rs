//! A model folder in, a checked [`ModelSpec`] out: what the model is, before libtorch or a weight is touched.
//!
//! sentence-transformers describes a model as a chain of modules (modules.json): a transformer, a pooling, and what comes
//! after. Two generations of names are about and both are read; a folder without modules.json is a plain Hugging Face
//! model and gets mean pooling. A module, mode or switch that changes the numbers and is not supported is refused by
//! name, with its file: a wrong vector is worse than none.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{self, ConfigFile, read_json, short, stays_inside};
use super::hub::ModelFolder;
use super::{Backend, LoadError, ModelConfig, PoolingMode, Precision, torch};

/// One step after the transformer, in the order of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Token vectors become one vector; several modes are concatenated.
    Pooling { modes: Vec<PoolingMode> },
    /// The vector is divided by its length.
    Normalize,
}

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
    /// `model_type` of config.json, or `hash`.
    pub family: String,
    /// Files of the weights, sorted by name.
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
    pub chain: Vec<Module>,
    /// Most tokens of a text, special tokens included.
    pub max_seq_length: usize,
    /// Put before every text; the model's default prompt.
    pub prompt: String,
    /// Texts are lowered before the tokenizer's own rules (`do_lower_case` of sentence_bert_config.json).
    pub lower_case: bool,
    pub precision: Precision,
    /// Threads of a CPU worker, where set.
    pub threads: Option<usize>,
}

/// Bounds on what a config may claim. No model comes near; they keep a hostile number from becoming an allocation.
const HIDDEN_MAX: usize = 65_536;
const VOCAB_MAX: usize = 10_000_000;
const POSITIONS_MAX: usize = 10_000_000;
/// Longest sequence of the words tokenizer where nothing says otherwise.
const WORDS_LENGTH: usize = 512;
/// Token ids travel as i32 beyond the batch, so they stay below this.
pub const WORDS_VOCAB: usize = 1 << 31;

impl ModelSpec {
    /// The hash backend without a model: the words tokenizer and `hash_dim`.
    pub fn words(config: &ModelConfig) -> ModelSpec {
        let modes = vec![PoolingMode::Mean];
        ModelSpec {
            backend: Backend::Hash,
            id: "hash".into(),
            revision: None,
            folder: None,
            transformer: None,
            config: None,
            family: "hash".into(),
            weights: Vec::new(),
            weights_sha256: None,
            hidden: config.hash_dim,
            dim: config.hash_dim,
            layers: 0,
            vocab_size: WORDS_VOCAB,
            chain: vec![Module::Pooling { modes }, Module::Normalize],
            max_seq_length: config.max_seq_length.unwrap_or(WORDS_LENGTH),
            prompt: String::new(),
            lower_case: false,
            precision: Precision::Float32,
            threads: None,
        }
    }

    /// Reads a model folder, with the pipeline file's overrides. The hash backend takes only what it needs of it: the
    /// tokenizer, its length and the prompt.
    pub fn read(folder: &ModelFolder, config: &ModelConfig) -> Result<ModelSpec, LoadError> {
        let path = folder.path.as_path();
        let modules = Modules::read(path)?;
        let transformer =
            if modules.transformer.is_empty() { path.to_owned() } else { path.join(&modules.transformer) };
        let sentence = SentenceConfig::read(&transformer)?;
        let mut spec = ModelSpec {
            id: folder.id.clone(),
            revision: folder.revision.clone(),
            folder: Some(path.to_owned()),
            config: ConfigFile::read(transformer.join("config.json"))?,
            prompt: default_prompt(path)?,
            lower_case: sentence.lower_case,
            threads: config.threads,
            ..ModelSpec::words(config)
        };
        if config.backend == Backend::Torch {
            spec.backend = Backend::Torch;
            spec.read_model(&transformer, &modules, config)?;
        } else if let Some(file) = &spec.config {
            spec.vocab_size = file.count("vocab_size", 1..=VOCAB_MAX)?.unwrap_or(WORDS_VOCAB);
        }
        spec.max_seq_length = max_seq_length(&transformer, &sentence, spec.config.as_ref(), config)?;
        spec.transformer = Some(transformer);
        Ok(spec)
    }

    /// What only a real model has: family, sizes, chain and weights.
    fn read_model(&mut self, transformer: &Path, modules: &Modules, config: &ModelConfig) -> Result<(), LoadError> {
        let Some(file) = &self.config else {
            let message = "is missing; a model folder has config.json, and modules.json where it is a \
                           sentence-transformers model";
            return Err(LoadError::model(transformer.join("config.json"), message));
        };
        let family = file.text("model_type")?.ok_or_else(|| file.error("`model_type` is missing"))?;
        let sizes = torch::check(family, file)?;
        self.family = family.to_owned();
        (self.hidden, self.layers, self.vocab_size) = (sizes.hidden, sizes.layers, sizes.vocab_size);
        self.chain = modules.chain(self.hidden, config)?;
        self.dim = self.chain.iter().fold(self.hidden, |dim, module| match module {
            Module::Pooling { modes } => dim * modes.len(),
            Module::Normalize => dim,
        });
        if modules.leaves_prompt_out && !self.prompt.is_empty() {
            let message = "`include_prompt` is false and the model has a default prompt; this version cannot leave a \
                           prompt's tokens out of the pooling";
            return Err(LoadError::model(modules.pooling_file(), message));
        }
        self.weights = folder::weights(transformer)?;
        self.weights_sha256 = Some(folder::sha256(&self.weights)?);
        Ok(())
    }

    /// The pooling as sentence-transformers names it; several modes joined by `+`.
    pub fn pooling(&self) -> String {
        let modes = self.chain.iter().filter_map(|module| match module {
            Module::Pooling { modes } => Some(modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join("+")),
            Module::Normalize => None,
        });
        modes.collect::<Vec<_>>().join(",")
    }

    pub fn normalize(&self) -> bool {
        self.chain.contains(&Module::Normalize)
    }

    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let revision = self.revision.as_deref().map(|commit| format!("@{commit:.12}")).unwrap_or_default();
        let what = match self.backend {
            Backend::Hash => format!("hash encoder, {} dims", self.dim),
            Backend::Torch => format!(
                "{}, {} layers, {} dims, {} pooling{}, {}",
                self.family,
                self.layers,
                self.dim,
                self.pooling(),
                if self.normalize() { ", normalised" } else { "" },
                self.precision
            ),
        };
        let prompt = if self.prompt.is_empty() { String::new() } else { format!(", prompt {:?}", self.prompt) };
        format!("{}{revision}: {what}, at most {} tokens{prompt}", self.id, self.max_seq_length)
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
        pairs.push(("pooling", self.pooling()));
        pairs.push(("normalize", self.normalize().to_string()));
        pairs.push(("dim", self.dim.to_string()));
        pairs.push(("max_seq_length", self.max_seq_length.to_string()));
        pairs.push(("prompt", self.prompt.clone()));
        pairs.push(("precision", self.precision.to_string()));
        pairs
    }
}

/// modules.json, read: where the transformer is and what comes after it.
struct Modules {
    /// modules.json itself, for errors.
    path: PathBuf,
    /// Relative to the folder; empty where the transformer is the folder itself.
    transformer: String,
    after: Vec<Module>,
    /// The pooling's configuration and the width that it expects.
    pooling: Option<(ConfigFile, Option<usize>)>,
    leaves_prompt_out: bool,
}

impl Modules {
    fn read(folder: &Path) -> Result<Modules, LoadError> {
        let path = folder.join("modules.json");
        let mut modules = Modules {
            path: path.clone(),
            transformer: String::new(),
            after: Vec::new(),
            pooling: None,
            leaves_prompt_out: false,
        };
        let list = match read_json(&path)? {
            // A plain Hugging Face model: sentence-transformers gives it mean pooling and nothing else.
            None => {
                modules.after.push(Module::Pooling { modes: vec![PoolingMode::Mean] });
                return Ok(modules);
            }
            Some(Value::Array(list)) => list,
            Some(other) => return Err(LoadError::model(path, format!("must be a list, found {}", short(&other)))),
        };
        for (index, entry) in list.iter().enumerate() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let Some(kind) = text("type") else {
                return Err(LoadError::model(path, format!("module {index} has no `type`")));
            };
            let place = text("path").unwrap_or_default();
            if !place.is_empty() && !stays_inside(place) {
                return Err(LoadError::model(path, format!("`path` {place:?} of module {index} leaves the folder")));
            }
            modules.add(folder, index, kind, place)?;
        }
        if list.is_empty() || modules.pooling.is_none() {
            return Err(LoadError::model(path, "must list a Transformer and a Pooling module"));
        }
        Ok(modules)
    }

    fn add(&mut self, folder: &Path, index: usize, kind: &str, place: &str) -> Result<(), LoadError> {
        // Both generations of names end in the class; what comes before it moved about between versions.
        let class = kind.strip_prefix("sentence_transformers.").and_then(|rest| rest.rsplit('.').next());
        let refuse = |what: String| Err(LoadError::model(&self.path, format!("module {index} is {kind:?}, {what}")));
        match (index, class) {
            (0, Some("Transformer")) => self.transformer = place.to_owned(),
            (0, _) => return refuse("but the first module must be a Transformer in this version".into()),
            (_, Some("Pooling")) if self.pooling.is_none() && self.after.is_empty() => {
                self.read_pooling(folder.join(place))?;
            }
            (_, Some("Normalize")) if self.pooling.is_some() => self.after.push(Module::Normalize),
            (_, Some("Normalize" | "Pooling" | "Transformer")) => {
                return refuse("which is out of place; a chain is Transformer, Pooling, Normalize".into());
            }
            _ => {
                return refuse("which this version does not support; there are Transformer, Pooling, Normalize".into());
            }
        }
        Ok(())
    }

    fn read_pooling(&mut self, place: PathBuf) -> Result<(), LoadError> {
        let path = place.join("config.json");
        let file = ConfigFile::read(path.clone())?
            .ok_or_else(|| LoadError::model(path, "is missing; the Pooling module has its configuration there"))?;
        let modes = pooling_modes(&file)?;
        let mut width = None;
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            width = width.or(file.count(key, 1..=HIDDEN_MAX)?);
        }
        self.leaves_prompt_out = file.get("include_prompt").is_some() && !file.flag("include_prompt")?;
        self.after.push(Module::Pooling { modes });
        self.pooling = Some((file, width));
        Ok(())
    }

    fn pooling_file(&self) -> &Path {
        self.pooling.as_ref().map_or(&self.path, |(file, _)| &file.path)
    }

    /// What comes after the transformer, with the pipeline file's overrides.
    fn chain(&self, hidden: usize, config: &ModelConfig) -> Result<Vec<Module>, LoadError> {
        if let Some((file, Some(width))) = &self.pooling
            && *width != hidden
        {
            return Err(
                file.error(format!("`embedding_dimension` is {width}, but the transformer's vectors have {hidden}"))
            );
        }
        let mut chain = self.after.clone();
        if let Some(mode) = config.pooling {
            for module in &mut chain {
                if let Module::Pooling { modes } = module {
                    *modes = vec![mode];
                }
            }
        }
        match config.normalize {
            Some(true) if !chain.contains(&Module::Normalize) => chain.push(Module::Normalize),
            Some(false) => chain.retain(|module| *module != Module::Normalize),
            _ => {}
        }
        Ok(chain)
    }
}

/// The keys of the older generation, in the order in which sentence-transformers concatenates.
const POOLING_FLAGS: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// The modes of a Pooling module: `pooling_mode` as a name or a list, else one flag a mode; none set means mean.
fn pooling_modes(file: &ConfigFile) -> Result<Vec<PoolingMode>, LoadError> {
    let mut names: Vec<String> = Vec::new();
    match file.get("pooling_mode") {
        Some(Value::String(name)) => names.push(name.clone()),
        Some(Value::Array(list)) if !list.is_empty() => {
            for name in list {
                let name = name.as_str().ok_or_else(|| file.error("`pooling_mode` must be a list of names"))?;
                names.push(name.to_owned());
            }
        }
        Some(other) => {
            return Err(file.error(format!("`pooling_mode` must be a name or a list of names, found {}", short(other))));
        }
        None => {
            for (key, name) in POOLING_FLAGS {
                if file.flag(key)? {
                    names.push(name.into());
                }
            }
        }
    }
    if names.is_empty() {
        names.push("mean".into());
    }
    let supported = |name: &String| {
        let message = format!("pooling {name:?} is not supported in this version; there are mean, max, cls");
        name.parse().map_err(|_| file.error(message))
    };
    let modes = names.iter().map(supported).collect::<Result<Vec<PoolingMode>, _>>()?;
    if (1..modes.len()).any(|index| modes[..index].contains(&modes[index])) {
        return Err(file.error("`pooling_mode` names a mode twice"));
    }
    Ok(modes)
}

/// sentence_bert_config.json: how the Transformer module treats text.
#[derive(Default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    lower_case: bool,
    path: PathBuf,
}

/// The file's names through the years; the first that is there counts.
const SENTENCE_CONFIGS: [&str; 7] = [
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
) -> Result<usize, LoadError> {
    let positions = match (file, config.backend) {
        (Some(file), Backend::Torch) => torch::check(file.text("model_type")?.unwrap_or_default(), file)?.positions,
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

/// The prompt that sentence-transformers puts before every text of this model; empty where there is none.
fn default_prompt(folder: &Path) -> Result<String, LoadError> {
    let Some(file) = ConfigFile::read(folder.join("config_sentence_transformers.json"))? else {
        return Ok(String::new());
    };
    let Some(name) = file.text("default_prompt_name")? else { return Ok(String::new()) };
    match file.get("prompts").and_then(|prompts| prompts.get(name)) {
        Some(Value::String(prompt)) => Ok(prompt.clone()),
        _ => Err(file.error(format!("`default_prompt_name` is {name:?}, but `prompts` has no such prompt"))),
    }
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;

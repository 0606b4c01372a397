//! The modules of a model in, a checked [`ChainSpec`] out: each read from its folder, checked against the module before it, and
//! overridden by the pipeline file.
//!
//! The builder follows the width of the vectors through the chain and compares it with what each module declares. A module that
//! does not affect the output is left out: a Dropout, or token embeddings that change after the Pooling. A module that would fail
//! in sentence-transformers, or that is not supported here, is refused with its file and key.

use std::path::Path;

use serde_json::Value;

use super::chain::{ChainSpec, Module};
use super::config_file::ConfigFile;
use super::dense::{Dense, WIDTH_MAX};
use super::module_classes::ModuleClass;
use super::modules_json::{ModuleEntry, join};
use super::pooling::{self, PoolingMode};
use super::{LoadError, ModelConfig, OutputValue, files};

/// The chain of a plain Hugging Face model. As in sentence-transformers, it is mean pooling and nothing else, or the last token's
/// vector for a causal language model.
///
/// # Errors
/// If config.json is broken, or the pipeline file contradicts the model.
pub(super) fn for_plain_model(
    file: Option<&ConfigFile>,
    hidden: usize,
    config: &ModelConfig,
) -> Result<ChainSpec, LoadError> {
    let architectures = file.and_then(|file| file.get("architectures"));
    let architecture = architectures.and_then(|list| list.get(0)).and_then(Value::as_str);
    let is_causal = match file {
        Some(file) => file.get("is_causal").is_none() || file.flag("is_causal")?,
        None => true,
    };
    let is_causal_lm = is_causal && architecture.is_some_and(|name| name.ends_with("ForCausalLM"));
    let mut builder = ChainBuilder::new(Path::new(""), hidden, None, config);
    builder.pool(vec![if is_causal_lm { PoolingMode::LastToken } else { PoolingMode::Mean }]);
    builder.finish(None)
}

/// The chain of a script that returns sentence embeddings of `dim` values: they are only truncated and normalized.
///
/// # Errors
/// If the pipeline file asks for something that needs token embeddings.
pub(super) fn for_text_vectors(
    dim: usize,
    truncate_dim: Option<usize>,
    config: &ModelConfig,
) -> Result<ChainSpec, LoadError> {
    let refuse = |key, message: &str| Err(LoadError::Config { key, message: message.into() });
    for (key, is_set) in [("model.pooling", config.pooling.is_some()), ("model.dense", config.dense.is_some())] {
        if is_set {
            return refuse(key, "not supported, since model.script returns one vector per text (leave it out)");
        }
    }
    if config.value == OutputValue::TokenEmbeddings {
        let message =
            "found token_embeddings; expected sentence_embedding, since model.script returns one vector per text";
        return refuse("output.value", message);
    }
    if config.include_prompt == Some(false) {
        let message =
            "found false; expected true, since model.script returns one vector per text, so it pools by itself";
        return refuse("model.include_prompt", message);
    }
    ChainBuilder::new(Path::new(""), dim, None, config).finish(truncate_dim)
}

/// The chain of these modules; `None` if none of them is a Pooling. `hidden` is the width of the transformer's vectors,
/// `all_layers` the number of its layers if it returns the vectors of all of them, and `truncate_dim` what the model's own files
/// say.
///
/// # Errors
/// If a module is broken, not supported or does not fit the one before it, or if the pipeline file contradicts the model.
pub(super) fn for_modules(
    folder: &Path,
    entries: &[ModuleEntry],
    hidden: usize,
    all_layers: Option<usize>,
    truncate_dim: Option<usize>,
    config: &ModelConfig,
) -> Result<Option<ChainSpec>, LoadError> {
    let mut builder = ChainBuilder::new(folder, hidden, all_layers, config);
    for entry in entries {
        builder.add(entry)?;
    }
    if builder.sentence_width.is_none() {
        return Ok(None);
    }
    builder.finish(truncate_dim).map(Some)
}

/// The chain so far, and how wide the vectors are at its end.
struct ChainBuilder<'a> {
    folder: &'a Path,
    config: &'a ModelConfig,
    /// Width of the transformer's vectors.
    hidden: usize,
    /// The number of the transformer's layers, if it returns the vectors of all of them.
    all_layers: Option<usize>,
    /// Width of `token_embeddings`.
    token_width: usize,
    /// Width of `sentence_embedding`, once the Pooling has made it.
    sentence_width: Option<usize>,
    modules: Vec<Module>,
    include_prompt: bool,
}

/// The tensor that a module reads and writes, by sentence-transformers' name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    TokenEmbeddings,
    SentenceEmbedding,
}

/// The keys of a module's width in the two generations of files.
const EMBEDDING_DIMENSION: [&str; 2] = ["embedding_dimension", "word_embedding_dimension"];

impl<'a> ChainBuilder<'a> {
    fn new(folder: &'a Path, hidden: usize, all_layers: Option<usize>, config: &'a ModelConfig) -> ChainBuilder<'a> {
        ChainBuilder {
            folder,
            config,
            hidden,
            all_layers,
            token_width: hidden,
            sentence_width: None,
            modules: Vec::new(),
            include_prompt: config.include_prompt.unwrap_or(true),
        }
    }

    fn add(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        match entry.class {
            Some(ModuleClass::Pooling) => self.pooling(entry),
            Some(ModuleClass::Dense) => self.dense(entry),
            Some(ModuleClass::LayerNorm) => self.layer_norm(entry),
            Some(ModuleClass::Normalize) => self.normalize(entry),
            Some(ModuleClass::WeightedLayerPooling) => self.weighted_layers(entry),
            // It drops values in training only.
            Some(ModuleClass::Dropout) => Ok(()),
            Some(ModuleClass::Transformer) => {
                Err(entry.refuse("misplaced class", "one Transformer, as the first module"))
            }
            Some(ModuleClass::Router) => Err(entry.refuse("nested class", "no Router inside a Router")),
            None => Err(entry.refuse("unsupported class", format!("one of {}", ModuleClass::names()))),
        }
    }

    fn config_file(&self, entry: &ModuleEntry) -> Result<ConfigFile, LoadError> {
        let path = self.folder.join(join(&entry.path, "config.json"));
        let missing = || LoadError::model(&path, "missing; expected the configuration of the module");
        ConfigFile::read(path.clone())?.ok_or_else(missing)
    }

    fn pooling(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        if self.sentence_width.is_some() {
            return Err(entry.refuse("misplaced class", "one Pooling, but another one comes before it"));
        }
        let file = self.config_file(entry)?;
        let modes = pooling::modes_of(&file)?;
        for key in EMBEDDING_DIMENSION {
            check_width(&file, key, self.token_width, "the width of the token embeddings")?;
        }
        if self.config.include_prompt.is_none() && file.get("include_prompt").is_some() {
            self.include_prompt = file.flag("include_prompt")?;
        }
        self.pool(modes);
        Ok(())
    }

    /// Pools with the modes of the pipeline file, or else with the model's.
    fn pool(&mut self, model_modes: Vec<PoolingMode>) {
        if self.outputs_tokens() {
            self.sentence_width = Some(model_modes.len() * self.token_width);
            return;
        }
        let modes = self.config.pooling.as_ref().map_or(model_modes, |pooling| pooling.modes().to_vec());
        self.sentence_width = Some(modes.len() * self.token_width);
        self.modules.push(Module::Pooling { modes });
    }

    fn dense(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        if self.config.dense.is_some() {
            return Ok(());
        }
        let file = self.config_file(entry)?;
        let feature = feature_of(&file)?;
        let width = match (feature, self.sentence_width) {
            (Feature::TokenEmbeddings, _) => self.token_width,
            (Feature::SentenceEmbedding, Some(width)) => width,
            (Feature::SentenceEmbedding, None) => return Err(needs_pooling(entry)),
        };
        check_width(&file, "in_features", width, INPUT_WIDTH)?;
        let dense = Dense::read(&file, &self.folder.join(&entry.path))?;
        match feature {
            Feature::TokenEmbeddings => self.token_width = dense.width_out,
            Feature::SentenceEmbedding => self.sentence_width = Some(dense.width_out),
        }
        self.push(feature, Module::Dense(dense));
        Ok(())
    }

    fn layer_norm(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        let Some(width) = self.sentence_width else { return Err(needs_pooling(entry)) };
        let file = self.config_file(entry)?;
        file.required_count("dimension", 1..=WIDTH_MAX)?;
        check_width(&file, "dimension", width, INPUT_WIDTH)?;
        let weights = files::weights(&self.folder.join(&entry.path))?;
        self.push(Feature::SentenceEmbedding, Module::LayerNorm { weights, width });
        Ok(())
    }

    fn normalize(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        // Up to sentence-transformers 5.3 the module had no configuration.
        let file = ConfigFile::read(self.folder.join(join(&entry.path, "config.json")))?;
        let feature = match file.filter(|_| !entry.path.is_empty()) {
            Some(file) => feature_of(&file)?,
            None => Feature::SentenceEmbedding,
        };
        // Before the Pooling there is no sentence embedding, and the module does nothing, as in sentence-transformers.
        if feature == Feature::TokenEmbeddings || self.sentence_width.is_some() {
            self.push(feature, Module::Normalize);
        }
        Ok(())
    }

    /// The module works only if the transformer returns the vectors of all layers. It then replaces the token embeddings, so
    /// the modules before it, which worked on them, have no effect.
    fn weighted_layers(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        let affects_output = self.outputs_tokens() || self.sentence_width.is_none();
        let Some(all_layers) = self.all_layers.filter(|_| affects_output) else { return Ok(()) };
        let file = self.config_file(entry)?;
        for key in EMBEDDING_DIMENSION {
            check_width(&file, key, self.hidden, "the width of the token embeddings")?;
        }
        let layers = file.count("num_hidden_layers", 0..=WIDTH_MAX)?.unwrap_or(12);
        if layers != all_layers {
            let expected = format!("{all_layers}, the number of the transformer's layers");
            return Err(file.unexpected("num_hidden_layers", &layers.into(), expected));
        }
        let start = file.count("layer_start", 0..=layers)?.unwrap_or(4);
        let weights = files::weights(&self.folder.join(&entry.path))?;
        self.token_width = self.hidden;
        self.modules.clear();
        self.modules.push(Module::WeightedLayers { weights, start, layers });
        Ok(())
    }

    fn outputs_tokens(&self) -> bool {
        self.config.value == OutputValue::TokenEmbeddings
    }

    /// Keeps a module only if the output depends on it: for token embeddings, if it works on them; for sentence embeddings,
    /// if it works on the sentence embedding, or on token embeddings before the Pooling.
    fn push(&mut self, feature: Feature, module: Module) {
        let works_on_tokens = feature == Feature::TokenEmbeddings;
        let affects_output =
            if self.outputs_tokens() { works_on_tokens } else { !works_on_tokens || self.sentence_width.is_none() };
        if affects_output {
            self.modules.push(module);
        }
    }

    /// Appends the truncation, and the normalization that the pipeline file asks for. A truncated vector is not normalized
    /// again unless the pipeline file asks for it, as in sentence-transformers.
    fn finish(mut self, truncate_dim: Option<usize>) -> Result<ChainSpec, LoadError> {
        if self.outputs_tokens() {
            // sentence-transformers truncates and normalizes sentence embeddings only.
            return Ok(ChainSpec { modules: self.modules, dim: self.token_width, include_prompt: self.include_prompt });
        }
        let mut dim = self.sentence_width.unwrap_or(self.token_width);
        let ends_in_normalize = |modules: &[Module]| modules.last() == Some(&Module::Normalize);
        if self.config.normalize == Some(false) {
            while ends_in_normalize(&self.modules) {
                self.modules.pop();
            }
        }
        if let Some(configured) = self.config.truncate_dim.filter(|configured| *configured > dim) {
            let message = format!("found {configured}; expected at most {dim}, the length of the model's vectors");
            return Err(LoadError::Config { key: "model.truncate_dim", message });
        }
        if let Some(truncated) = self.config.truncate_dim.or(truncate_dim).filter(|truncated| *truncated < dim) {
            self.modules.push(Module::Truncate { dim: truncated });
            dim = truncated;
        }
        if self.config.normalize == Some(true) && !ends_in_normalize(&self.modules) {
            self.modules.push(Module::Normalize);
        }
        Ok(ChainSpec { modules: self.modules, dim, include_prompt: self.include_prompt })
    }
}

const INPUT_WIDTH: &str = "the width of the vectors before it";

fn needs_pooling(entry: &ModuleEntry) -> LoadError {
    entry.refuse("misplaced class", "a Pooling before it, which makes the sentence embedding")
}

/// Refuses a declared width that differs from the actual one. `meaning` says what the actual one is.
fn check_width(file: &ConfigFile, key: &str, actual: usize, meaning: &str) -> Result<(), LoadError> {
    match file.count(key, 1..=WIDTH_MAX)? {
        Some(width) if width != actual => Err(file.unexpected(key, &width.into(), format!("{actual}, {meaning}"))),
        _ => Ok(()),
    }
}

/// The tensor that a Dense or Normalize module reads. It must write to the same one.
fn feature_of(file: &ConfigFile) -> Result<Feature, LoadError> {
    let named = |key: &str| -> Result<Option<Feature>, LoadError> {
        match file.text(key)? {
            None => Ok(None),
            Some("token_embeddings") => Ok(Some(Feature::TokenEmbeddings)),
            Some("sentence_embedding") => Ok(Some(Feature::SentenceEmbedding)),
            Some(other) => Err(file.unexpected(key, &other.into(), "token_embeddings or sentence_embedding")),
        }
    };
    let input = named("module_input_name")?.unwrap_or(Feature::SentenceEmbedding);
    let output = named("module_output_name")?.unwrap_or(input);
    if input != output {
        let message = "\"module_output_name\": differs from \"module_input_name\"; expected both to be the same";
        return Err(file.error(message));
    }
    Ok(input)
}

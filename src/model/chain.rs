//! What happens to token vectors: the modules after the transformer, read from their folders, checked against each other,
//! with the pipeline file's overrides.
//!
//! sentence-transformers hands every module a dictionary of tensors; two of them matter here: `token_embeddings`, which the
//! transformer makes, and `sentence_embedding`, which the Pooling makes of it. A module before the Pooling works on token
//! vectors, one after it on the text's vector, so a chain is a plain list. What has no effect on the text's vector there
//! (a Dropout, token vectors changed after the pooling) is not in the list; what would fail there, or is not supported here,
//! is refused with file and key. The width is followed through the chain and held against what each module declares.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config_file::ConfigFile;
use super::files;
use super::module_classes::ModuleClass;
use super::modules_json::{ModuleEntry, beside};
use super::pooling::{self, PoolingMode};
use super::{LoadError, ModelConfig, OutputValue};
use crate::enum_names::enum_names;

/// One step after the transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Token vectors are the weighted mean of those of the layers from `start` on; 0 is before the first layer. Comes first.
    WeightedLayers { weights: Vec<PathBuf>, start: usize, layers: usize },
    /// Token vectors become one vector; several modes are put side by side.
    Pooling { modes: Vec<PoolingMode> },
    /// A linear layer and an activation.
    Dense(Dense),
    /// torch's LayerNorm over the vector, with its default epsilon.
    LayerNorm { weights: Vec<PathBuf>, width: usize },
    /// The vector is divided by its length.
    Normalize,
    /// The first values of the vector are kept.
    Truncate { dim: usize },
}

/// What a Dense module computes: activation(x Wᵀ + b), plus x, or a projection of it, where it is residual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dense {
    pub weights: Vec<PathBuf>,
    pub width_in: usize,
    pub width_out: usize,
    pub bias: bool,
    pub activation: DenseActivation,
    pub residual: bool,
}

/// torch's activations that work on each value by itself and have no weights, by the names of their classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
    Silu,
    Elu,
    Celu,
    Selu,
    Mish,
    Relu6,
    RRelu,
    LeakyRelu,
    LogSigmoid,
    Softplus,
    Softsign,
    Softshrink,
    Hardshrink,
    Tanhshrink,
    Hardtanh,
    Hardsigmoid,
    Hardswish,
}

enum_names!(
    DenseActivation,
    "activation that is supported",
    Identity = "Identity",
    Tanh = "Tanh",
    Relu = "ReLU",
    Gelu = "GELU",
    Sigmoid = "Sigmoid",
    Silu = "SiLU",
    Elu = "ELU",
    Celu = "CELU",
    Selu = "SELU",
    Mish = "Mish",
    Relu6 = "ReLU6",
    RRelu = "RReLU",
    LeakyRelu = "LeakyReLU",
    LogSigmoid = "LogSigmoid",
    Softplus = "Softplus",
    Softsign = "Softsign",
    Softshrink = "Softshrink",
    Hardshrink = "Hardshrink",
    Tanhshrink = "Tanhshrink",
    Hardtanh = "Hardtanh",
    Hardsigmoid = "Hardsigmoid",
    Hardswish = "Hardswish"
);

/// Widest vector of a module; keeps a hostile number from becoming an allocation.
const WIDTH_MAX: usize = 65_536;

/// The chain of one model, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Exactly one of them is a Pooling; none where token vectors are wanted, or where a script gives texts' vectors.
    pub modules: Vec<Module>,
    /// Length of a text's vector.
    pub dim: usize,
    /// Whether a prompt's tokens count in the pooling.
    pub include_prompt: bool,
}

impl Chain {
    /// A plain Hugging Face model: sentence-transformers gives it mean pooling and nothing else, or the last token's vector
    /// where it was made to predict the next word.
    pub fn plain(file: Option<&ConfigFile>, hidden: usize, config: &ModelConfig) -> Result<Chain, LoadError> {
        let architectures = file.and_then(|file| file.get("architectures"));
        let architecture = architectures.and_then(|list| list.get(0)).and_then(Value::as_str);
        let is_causal = match file {
            Some(file) => file.get("is_causal").is_none() || file.flag("is_causal")?,
            None => true,
        };
        let predicts = is_causal && architecture.is_some_and(|name| name.ends_with("ForCausalLM"));
        let mut walk = Walk::new(Path::new(""), hidden, None, config);
        walk.pool(vec![if predicts { PoolingMode::LastToken } else { PoolingMode::Mean }]);
        walk.finish(None)
    }

    /// Of a script that gives texts' vectors of `dim` values: they are only cut and scaled.
    pub fn of_texts(dim: usize, truncate_dim: Option<usize>, config: &ModelConfig) -> Result<Chain, LoadError> {
        for (key, given) in [("model.pooling", config.pooling.is_some()), ("model.dense", config.dense.is_some())] {
            if given {
                let message = "is given, but model.script gives a vector a text, which no module comes after".into();
                return Err(LoadError::Config { key, message });
            }
        }
        if config.value == OutputValue::TokenEmbeddings {
            let message =
                "is token_embeddings, but model.script gives a vector a text; expected sentence_embedding".into();
            return Err(LoadError::Config { key: "output.value", message });
        }
        if config.include_prompt == Some(false) {
            let message = "is false, but model.script gives a vector a text: it pools by itself".into();
            return Err(LoadError::Config { key: "model.include_prompt", message });
        }
        Walk::new(Path::new(""), dim, None, config).finish(truncate_dim)
    }

    /// The chain of these modules. `hidden` is the width of the transformer's vectors; `all_layers` is how many layers it has, if
    /// it hands out the vectors of each; `truncate_dim` is what the model's own files say.
    pub fn read(
        folder: &Path,
        entries: &[ModuleEntry],
        (hidden, all_layers): (usize, Option<usize>),
        truncate_dim: Option<usize>,
        config: &ModelConfig,
    ) -> Result<Option<Chain>, LoadError> {
        let mut walk = Walk::new(folder, hidden, all_layers, config);
        for entry in entries {
            walk.add(entry)?;
        }
        if walk.sentence.is_none() {
            return Ok(None);
        }
        walk.finish(truncate_dim).map(Some)
    }

    /// The files of the modules' own weights, in the chain's order.
    pub fn weights(&self) -> Vec<PathBuf> {
        let weights = self.modules.iter().filter_map(|module| match module {
            Module::Dense(Dense { weights, .. })
            | Module::LayerNorm { weights, .. }
            | Module::WeightedLayers { weights, .. } => Some(weights.clone()),
            _ => None,
        });
        weights.flatten().collect()
    }
}

/// The chain so far, and how wide the vectors are.
struct Walk<'a> {
    folder: &'a Path,
    config: &'a ModelConfig,
    hidden: usize,
    all_layers: Option<usize>,
    /// Width of `token_embeddings`.
    tokens: usize,
    /// Width of `sentence_embedding`, once there is one.
    sentence: Option<usize>,
    modules: Vec<Module>,
    include_prompt: bool,
}

/// Which of the two tensors a module works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Tokens,
    Sentence,
}

impl<'a> Walk<'a> {
    fn new(folder: &'a Path, hidden: usize, all_layers: Option<usize>, config: &'a ModelConfig) -> Walk<'a> {
        let include_prompt = config.include_prompt.unwrap_or(true);
        Walk { folder, config, hidden, all_layers, tokens: hidden, sentence: None, modules: Vec::new(), include_prompt }
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
                Err(entry.refuse("which is out of place: a text goes through one Transformer, which comes first"))
            }
            Some(ModuleClass::Router) => Err(entry.refuse("a Router inside a Router, which is not supported")),
            None => {
                Err(entry.refuse(format!("which this version does not support; there are {}", ModuleClass::names())))
            }
        }
    }

    fn config_of(&self, entry: &ModuleEntry) -> Result<ConfigFile, LoadError> {
        let path = self.folder.join(beside(&entry.path, "config.json"));
        let missing = || LoadError::model(&path, "is missing; the module has its configuration there");
        ConfigFile::read(path.clone())?.ok_or_else(missing)
    }

    fn pooling(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        if self.sentence.is_some() {
            return Err(entry.refuse("which is out of place: the text's vector has been made by a Pooling before it"));
        }
        let file = self.config_of(entry)?;
        let modes = pooling::declared(&file)?;
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            declared(&file, key, self.tokens, "the token vectors have")?;
        }
        if self.config.include_prompt.is_none() && file.get("include_prompt").is_some() {
            self.include_prompt = file.flag("include_prompt")?;
        }
        self.pool(modes);
        Ok(())
    }

    /// Pools, with the pipeline file's modes over the model's own.
    fn pool(&mut self, own: Vec<PoolingMode>) {
        if self.of_tokens() {
            self.sentence = Some(own.len() * self.tokens);
            return;
        }
        let modes = self.config.pooling.as_ref().map_or(own, |pooling| pooling.modes().to_vec());
        self.sentence = Some(modes.len() * self.tokens);
        self.modules.push(Module::Pooling { modes });
    }

    fn dense(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        if self.config.dense.is_some() {
            return Ok(());
        }
        let file = self.config_of(entry)?;
        let slot = slot(&file)?;
        let width = match (slot, self.sentence) {
            (Slot::Tokens, _) => self.tokens,
            (Slot::Sentence, Some(width)) => width,
            (Slot::Sentence, None) => {
                return Err(
                    entry.refuse("which is out of place: it needs the text's vector, which no Pooling has made yet")
                );
            }
        };
        let width_in = file.needed_count("in_features", 1..=WIDTH_MAX)?;
        let width_out = file.needed_count("out_features", 1..=WIDTH_MAX)?;
        declared(&file, "in_features", width, "the vectors before it have")?;
        let dense = Dense {
            width_in,
            width_out,
            bias: file.get("bias").is_none() || file.flag("bias")?,
            activation: activation(&file)?,
            residual: file.flag("use_residual")?,
            weights: files::weights(&self.folder.join(&entry.path))?,
        };
        match slot {
            Slot::Tokens => self.tokens = width_out,
            Slot::Sentence => self.sentence = Some(width_out),
        }
        self.push(slot, Module::Dense(dense));
        Ok(())
    }

    fn layer_norm(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        let Some(width) = self.sentence else {
            return Err(
                entry.refuse("which is out of place: it needs the text's vector, which no Pooling has made yet")
            );
        };
        let file = self.config_of(entry)?;
        file.needed_count("dimension", 1..=WIDTH_MAX)?;
        declared(&file, "dimension", width, "the vectors before it have")?;
        let weights = files::weights(&self.folder.join(&entry.path))?;
        self.push(Slot::Sentence, Module::LayerNorm { weights, width });
        Ok(())
    }

    fn normalize(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        // Up to 5.3 the module had no configuration.
        let file = ConfigFile::read(self.folder.join(beside(&entry.path, "config.json")))?;
        let slot = match file.filter(|_| !entry.path.is_empty()) {
            Some(file) => slot(&file)?,
            None => Slot::Sentence,
        };
        // A vector that is not there yet is left alone, as it is there.
        if slot == Slot::Tokens || self.sentence.is_some() {
            self.push(slot, Module::Normalize);
        }
        Ok(())
    }

    /// It has an effect only where the transformer hands out all its layers; and then none that worked on token vectors
    /// before it has one.
    fn weighted_layers(&mut self, entry: &ModuleEntry) -> Result<(), LoadError> {
        let Some(all) = self.all_layers.filter(|_| self.of_tokens() || self.sentence.is_none()) else { return Ok(()) };
        let file = self.config_of(entry)?;
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            declared(&file, key, self.hidden, "the token vectors have")?;
        }
        let layers = file.count("num_hidden_layers", 0..=WIDTH_MAX)?.unwrap_or(12);
        if layers != all {
            return Err(file.error(format!("`num_hidden_layers` is {layers}, but the transformer has {all} layers")));
        }
        let start = file.count("layer_start", 0..=layers)?.unwrap_or(4);
        let weights = files::weights(&self.folder.join(&entry.path))?;
        self.tokens = self.hidden;
        self.modules.clear();
        self.modules.push(Module::WeightedLayers { weights, start, layers });
        Ok(())
    }

    fn of_tokens(&self) -> bool {
        self.config.value == OutputValue::TokenEmbeddings
    }

    /// Token vectors are of no use once the text's vector is made of them, and the text's is none where they are wanted.
    fn push(&mut self, slot: Slot, module: Module) {
        let is_wanted =
            if self.of_tokens() { slot == Slot::Tokens } else { slot == Slot::Sentence || self.sentence.is_none() };
        if is_wanted {
            self.modules.push(module);
        }
    }

    /// In the end the vector is cut, then normalised where the pipeline file asks for it; a cut vector is not normalised
    /// again of itself.
    fn finish(mut self, truncate_dim: Option<usize>) -> Result<Chain, LoadError> {
        if self.of_tokens() {
            // sentence-transformers cuts and scales the text's vector only.
            return Ok(Chain { modules: self.modules, dim: self.tokens, include_prompt: self.include_prompt });
        }
        let mut dim = self.sentence.unwrap_or(self.tokens);
        let ends_in_normalize = |modules: &[Module]| modules.last() == Some(&Module::Normalize);
        if self.config.normalize == Some(false) {
            while ends_in_normalize(&self.modules) {
                self.modules.pop();
            }
        }
        if let Some(own) = self.config.truncate_dim.filter(|own| *own > dim) {
            let message = format!("is {own}, but the model's vectors have {dim} values");
            return Err(LoadError::Config { key: "model.truncate_dim", message });
        }
        if let Some(first) = self.config.truncate_dim.or(truncate_dim).filter(|first| *first < dim) {
            self.modules.push(Module::Truncate { dim: first });
            dim = first;
        }
        if self.config.normalize == Some(true) && !ends_in_normalize(&self.modules) {
            self.modules.push(Module::Normalize);
        }
        Ok(Chain { modules: self.modules, dim, include_prompt: self.include_prompt })
    }
}

/// Refuses a declared width that is not the one found.
fn declared(file: &ConfigFile, key: &str, found: usize, what: &str) -> Result<(), LoadError> {
    match file.count(key, 1..=WIDTH_MAX)? {
        Some(width) if width != found => Err(file.error(format!("`{key}` is {width}, but {what} {found} values"))),
        _ => Ok(()),
    }
}

/// Which tensor a Dense or Normalize module reads; it must write to the same.
fn slot(file: &ConfigFile) -> Result<Slot, LoadError> {
    let mut slots = [Slot::Sentence; 2];
    for (index, key) in ["module_input_name", "module_output_name"].into_iter().enumerate() {
        slots[index] = match (file.text(key)?, index) {
            (Some("token_embeddings"), _) => Slot::Tokens,
            (Some("sentence_embedding"), _) | (None, 0) => Slot::Sentence,
            (None, _) => slots[0],
            (Some(other), _) => {
                let known = "there are token_embeddings and sentence_embedding";
                return Err(file.error(format!("`{key}` is {other:?}, which this version does not support; {known}")));
            }
        };
    }
    if slots[0] != slots[1] {
        let message = "`module_output_name` is another than `module_input_name`, which this version does not support";
        return Err(file.error(message));
    }
    Ok(slots[0])
}

/// `activation_function`, the path of a class in torch; Tanh where it is not given.
fn activation(file: &ConfigFile) -> Result<DenseActivation, LoadError> {
    if file.json.get("activation_function").is_some_and(Value::is_null) {
        return Err(file.error("`activation_function` is null; expected the path of a class, as in torch.nn.Identity"));
    }
    let Some(path) = file.text("activation_function")? else { return Ok(DenseActivation::Tanh) };
    // Without trust in the model's code, sentence-transformers takes Tanh instead of a class of its own; that is no better.
    let class = path.strip_prefix("torch.nn.").and_then(|rest| rest.rsplit('.').next()).unwrap_or(path);
    class.parse().map_err(|what| file.error(format!("`activation_function` is {path:?}: {what}")))
}

/// In words, for `explain`.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Module::WeightedLayers { start, layers, .. } => write!(f, "layers {start} to {layers} weighted"),
            Module::Pooling { modes } => write!(f, "{} pooling", pooling::joined(modes)),
            Module::Dense(dense) => {
                write!(f, "dense {} to {} ({}", dense.width_in, dense.width_out, dense.activation)?;
                write!(
                    f,
                    "{}{})",
                    if dense.bias { "" } else { ", no bias" },
                    if dense.residual { ", residual" } else { "" }
                )
            }
            Module::LayerNorm { .. } => f.write_str("layer norm"),
            Module::Normalize => f.write_str("normalised"),
            Module::Truncate { dim } => write!(f, "first {dim} values"),
        }
    }
}

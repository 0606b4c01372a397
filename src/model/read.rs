//! A model folder in, a checked [`ModelSpec`] out.
//!
//! sentence-transformers describes a model as a list of modules (modules.json): a transformer, a pooling, and what comes
//! before and after. Its files have two generations of names, and both are read. A folder without modules.json is a plain
//! Hugging Face model. A module, mode or switch that changes the vectors and is not supported is refused by name, with its
//! file, because a wrong vector is worse than none.

use std::path::{Path, PathBuf};

use super::chain::ChainSpec;
use super::config_file::ConfigFile;
use super::hub::ModelFolder;
use super::max_seq_length::max_seq_length;
use super::module_classes::ModuleClass;
use super::modules_json::{self, ModuleEntry};
use super::script::{OutputKind, Script, ScriptFormat};
use super::sentence_bert_config::SentenceBertConfig;
use super::sentence_transformers_config::SentenceTransformersConfig;
use super::spec::HASH_VOCAB_SIZE;
use super::tokenizer::Tokenizer;
use super::{Backend, LoadError, ModelConfig, ModelRuntime, ModelSpec, chain_builder, files};

/// Upper bound of `vocab_size`; no known model reaches it.
const VOCAB_SIZE_MAX: usize = 10_000_000;

/// Models whose prompts sentence-transformers leaves out of the pooling by their names, since their files do not say so.
const INSTRUCTORS: [&str; 3] = ["hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl"];

/// Reads a model folder, with the pipeline file's overrides. The hash backend takes only the tokenizer, the maximum length
/// and the prompt from it. A script is run once, to find out what it returns.
///
/// # Errors
/// If a file is missing, broken or contradicts another one, or if it asks for something that is not supported.
pub(super) fn read(
    folder: &ModelFolder,
    config: &ModelConfig,
    runtime: &dyn ModelRuntime,
) -> Result<ModelSpec, LoadError> {
    let path = folder.path.as_path();
    let model = SentenceTransformersConfig::read(path)?;
    let entries = modules_json::route(path, config.route.as_deref())?.map(|route| route.entries);
    let transformer = match &entries {
        None => path.to_owned(),
        Some(entries) => transformer_folder(path, entries)?,
    };
    let sentence_bert = SentenceBertConfig::read(&transformer)?;
    let mut spec = ModelSpec {
        id: folder.id.clone(),
        revision: folder.revision.clone(),
        folder: Some(path.to_owned()),
        config: ConfigFile::read(transformer.join("config.json"))?,
        prompt: model.prompt_for(config)?,
        lower_case: sentence_bert.lower_case,
        threads: config.threads,
        precision: config.precision,
        route: config.route.clone(),
        ..ModelSpec::hash_backend(config)
    };
    if config.backend == Backend::Torch {
        refuse_adapter(&transformer)?;
    }
    if let (Backend::Torch, Some(file)) = (config.backend, &config.script) {
        spec.backend = Backend::Torch;
        // The tokenizer, which the script's probe texts need, is loaded from these two.
        spec.max_seq_length = max_seq_length(&transformer, &sentence_bert, spec.config.as_ref(), config, runtime)?;
        spec.transformer = Some(transformer.clone());
        match read_script(&mut spec, file, runtime)? {
            OutputKind::TokenVectors => read_chain(&mut spec, path, entries.as_deref(), model.truncate_dim, config)?,
            OutputKind::TextVectors => {
                let chain = chain_builder::for_text_vectors(spec.hidden, model.truncate_dim, config)?;
                set_chain(&mut spec, chain)?;
            }
        }
    } else if config.backend == Backend::Torch {
        spec.backend = Backend::Torch;
        read_family(&mut spec, &transformer, runtime)?;
        read_chain(&mut spec, path, entries.as_deref(), model.truncate_dim, config)?;
        spec.weights = files::weights(&transformer)?;
        spec.weights_sha256 = Some(files::sha256(&spec.weights)?);
    } else {
        spec.vocab_size = vocab_size(spec.config.as_ref())?;
    }
    spec.max_seq_length = max_seq_length(&transformer, &sentence_bert, spec.config.as_ref(), config, runtime)?;
    spec.transformer = Some(transformer);
    (spec.prompts, spec.default_prompt_name) = (model.prompts, model.default_prompt_name);
    Ok(spec)
}

/// An adapter changes the weights, so a model with one is refused.
fn refuse_adapter(transformer: &Path) -> Result<(), LoadError> {
    let adapter = transformer.join("adapter_config.json");
    if adapter.is_file() {
        let message = "adapters are not supported; expected a model without one (merge it into the weights with peft's \
                       merge_and_unload, and save the model)";
        return Err(LoadError::model(&adapter, message));
    }
    Ok(())
}

/// The family of a model that is not a script, and its sizes.
fn read_family(spec: &mut ModelSpec, transformer: &Path, runtime: &dyn ModelRuntime) -> Result<(), LoadError> {
    let Some(file) = &spec.config else {
        let message = "missing; expected config.json, and modules.json beside it for a sentence-transformers model";
        return Err(LoadError::model(transformer.join("config.json"), message));
    };
    let family =
        file.text("model_type")?.ok_or_else(|| file.missing("model_type", "the name of the model's family"))?;
    let sizes = runtime.check(family, file)?;
    spec.family = family.to_owned();
    (spec.hidden, spec.layers, spec.vocab_size) = (sizes.hidden, sizes.layers, sizes.vocab_size);
    Ok(())
}

/// Reads a script: its hash, and what it returns for two texts. This executes the code in it.
fn read_script(spec: &mut ModelSpec, file: &Path, runtime: &dyn ModelRuntime) -> Result<OutputKind, LoadError> {
    let refuse =
        |message: String| LoadError::Config { key: "model.script", message: format!("{}: {message}", file.display()) };
    match std::fs::metadata(file) {
        Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
        Ok(metadata) if !metadata.is_file() => {
            return Err(refuse("not a regular file; expected a TorchScript file".into()));
        }
        Ok(_) => {}
    }
    spec.family = ScriptFormat::of(file).family().into();
    spec.weights = vec![file.to_owned()];
    spec.weights_sha256 = Some(files::sha256(&spec.weights)?);
    spec.vocab_size = vocab_size(spec.config.as_ref())?;
    let tokenizer = Tokenizer::load(spec)?;
    let (pad_id, probe) = (tokenizer.pad_id(spec.config.as_ref())?, tokenizer.probe_texts()?);
    let script = Script { file: file.to_owned(), pad_id, probe };
    let output = runtime.probe_script(&script)?;
    (spec.script, spec.hidden, spec.precision) = (Some(script), output.width, output.precision);
    Ok(output.kind)
}

/// `vocab_size` of config.json; without it, any id is allowed.
fn vocab_size(config: Option<&ConfigFile>) -> Result<usize, LoadError> {
    match config {
        Some(file) => Ok(file.count("vocab_size", 1..=VOCAB_SIZE_MAX)?.unwrap_or(HASH_VOCAB_SIZE)),
        None => Ok(HASH_VOCAB_SIZE),
    }
}

/// Reads the modules after the transformer, and hashes their weights.
fn read_chain(
    spec: &mut ModelSpec,
    folder: &Path,
    entries: Option<&[ModuleEntry]>,
    truncate_dim: Option<usize>,
    config: &ModelConfig,
) -> Result<(), LoadError> {
    let file = spec.config.as_ref();
    let chain = match entries {
        None => Some(chain_builder::for_plain_model(file, spec.hidden, config)?),
        Some([_, modules @ ..]) => {
            let all_layers = match file {
                Some(file) => file.flag("output_hidden_states")?.then_some(spec.layers),
                None => None,
            };
            let needs_all = |entry: &ModuleEntry| entry.class == Some(ModuleClass::WeightedLayerPooling);
            if all_layers.is_some() && spec.script.is_some() && modules.iter().any(needs_all) {
                let message =
                    "returns the last layer only, but the model's WeightedLayerPooling needs all layers".into();
                return Err(LoadError::Config { key: "model.script", message });
            }
            chain_builder::for_modules(folder, modules, spec.hidden, all_layers, truncate_dim, config)?
        }
        Some([]) => None,
    };
    let Some(chain) = chain else { return Err(incomplete(folder)) };
    spec.dense_left_out = config.dense.is_some();
    set_chain(spec, chain)?;
    if config.include_prompt.is_none() && INSTRUCTORS.contains(&spec.id.as_str()) {
        spec.include_prompt = false;
    }
    Ok(())
}

fn set_chain(spec: &mut ModelSpec, chain: ChainSpec) -> Result<(), LoadError> {
    let weights = chain.weights();
    if !weights.is_empty() {
        spec.modules_sha256 = Some(files::sha256(&weights)?);
    }
    (spec.chain, spec.dim, spec.include_prompt) = (chain.modules, chain.dim, chain.include_prompt);
    Ok(())
}

/// The folder of the transformer, which is the first module.
fn transformer_folder(folder: &Path, entries: &[ModuleEntry]) -> Result<PathBuf, LoadError> {
    match entries.first() {
        Some(first) if first.class == Some(ModuleClass::Transformer) && first.path.is_empty() => Ok(folder.to_owned()),
        Some(first) if first.class == Some(ModuleClass::Transformer) => Ok(folder.join(&first.path)),
        Some(first) => Err(first.refuse("unsupported first class", "Transformer")),
        None => Err(incomplete(folder)),
    }
}

fn incomplete(folder: &Path) -> LoadError {
    LoadError::model(folder.join("modules.json"), "incomplete; expected a Transformer and a Pooling after it")
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "chain_tests.rs"]
mod chain_tests;

#[cfg(test)]
#[path = "router_tests.rs"]
mod router_tests;

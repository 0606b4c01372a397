//! From the `model:` section to what the model is: its folder found or downloaded, and read.

use super::hub::{self, HubSettings, ModelFolder, Progress};
use super::prompts::SentenceTransformers;
use super::tokenizer::Tokenizer;
use super::{Backend, LoadError, ModelConfig, ModelRuntime, ModelSpec, modules_json};

/// Finds the model and reads what there is to know about it before weights are loaded. It may download, and it reads the
/// weights once to hash them: it blocks, so callers keep it off the runtime's threads.
///
/// # Errors
/// If the configuration contradicts itself or the model, or the model cannot be had or is not supported.
pub fn find(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn Progress,
    runtime: &dyn ModelRuntime,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    let Some(id) = &config.id else { return Ok(ModelSpec::hash_backend(config)) };
    let folder = hub::resolve(id, &config.revision, hub, progress)?;
    read(&folder, config, runtime)
}

/// The same model for queries, as sentence-transformers' `encode_query` has it: with the prompt named `query`, where the
/// configuration gives no prompt of its own, and on the Router's route for queries, where it has one.
///
/// # Errors
/// As [`find`].
pub fn find_for_queries(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn Progress,
    runtime: &dyn ModelRuntime,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    let Some(id) = &config.id else { return Ok(ModelSpec::hash_backend(config)) };
    let folder = hub::resolve(id, &config.revision, hub, progress)?;
    let mut config = config.clone();
    if config.prompt.is_none() && config.prompt_name.is_none() {
        config.prompt = Some(SentenceTransformers::read(&folder.path)?.query().to_owned());
    }
    if modules_json::has_route(&folder.path, "query")? {
        config.route = Some("query".into());
    }
    read(&folder, &config, runtime)
}

fn read(folder: &ModelFolder, config: &ModelConfig, runtime: &dyn ModelRuntime) -> Result<ModelSpec, LoadError> {
    let mut spec = ModelSpec::read(folder, config, runtime)?;
    if !spec.include_prompt && !spec.prompt.is_empty() && spec.backend == Backend::Torch {
        spec.prompt_tokens = Tokenizer::load(&spec)?.prompt_tokens()?;
    }
    Ok(spec)
}

//! The `model:` section of the pipeline file in, a [`ModelSpec`] out: finds or downloads the model's folder and reads it.

use super::hub::{self, DownloadProgress, HubSettings, ModelFolder};
use super::sentence_transformers_config::SentenceTransformersConfig;
use super::tokenizer::Tokenizer;
use super::{Backend, LoadError, ModelConfig, ModelRuntime, ModelSpec, modules_json, read};

/// Finds the model and reads everything about it that is needed before its weights are loaded. It may download the model, and it
/// reads the weights once to hash them. It blocks, so callers keep it off tokio's threads.
///
/// # Errors
/// If the configuration contradicts itself or the model, or if the model cannot be found, downloaded or supported.
pub(crate) fn find(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn DownloadProgress,
    runtime: &dyn ModelRuntime,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    match resolve(config, hub, progress)? {
        None => Ok(ModelSpec::hash_backend(config)),
        Some(folder) => read_spec(&folder, config, runtime),
    }
}

/// Finds the same model for queries, as sentence-transformers' `encode_query` uses it: with the prompt named `query`, unless the
/// configuration sets a prompt, and with the Router's route for queries, if the model has one.
///
/// # Errors
/// Those of [`find`].
pub(crate) fn find_for_queries(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn DownloadProgress,
    runtime: &dyn ModelRuntime,
) -> Result<ModelSpec, LoadError> {
    config.check()?;
    let Some(folder) = resolve(config, hub, progress)? else { return Ok(ModelSpec::hash_backend(config)) };
    let mut config = config.clone();
    if config.prompt.is_none() && config.prompt_name.is_none() {
        config.prompt = Some(SentenceTransformersConfig::read(&folder.path)?.query_prompt().to_owned());
    }
    if modules_json::has_route(&folder.path, "query")? {
        config.route = Some("query".into());
    }
    read_spec(&folder, &config, runtime)
}

/// The model's folder, or `None` for the hash backend without a model.
fn resolve(
    config: &ModelConfig,
    hub: &HubSettings,
    progress: &dyn DownloadProgress,
) -> Result<Option<ModelFolder>, LoadError> {
    let Some(id) = &config.id else { return Ok(None) };
    Ok(Some(hub::resolve(id, &config.revision, hub, progress)?))
}

/// Reads the folder. If the pooling leaves the prompt's tokens out, their number is counted, which takes the tokenizer.
fn read_spec(folder: &ModelFolder, config: &ModelConfig, runtime: &dyn ModelRuntime) -> Result<ModelSpec, LoadError> {
    let mut spec = read::read(folder, config, runtime)?;
    if !spec.include_prompt && !spec.prompt.is_empty() && spec.backend == Backend::Torch {
        spec.prompt_tokens = Tokenizer::load(&spec)?.prompt_tokens()?;
    }
    Ok(spec)
}

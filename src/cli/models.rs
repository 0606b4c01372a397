//! `models`: lists supported models, shows one, and downloads one.

use std::fmt::Write;

use crate::config::hub_settings;
use crate::encode::{spec, torch};
use crate::model::chain::DenseActivation;
use crate::model::hub::{HubError, resolve};
use crate::model::spec::ModelSpec;
use crate::model::{LoadError, ModelConfig, PoolingMode};
use anyhow::Error;
use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::LoadBar;
use super::terminal::{print, usage};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill models list
  embedmill models pull sentence-transformers/all-MiniLM-L6-v2
  embedmill models show sentence-transformers/all-MiniLM-L6-v2")]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the supported model families, modules, poolings and activations
    #[command(after_help = "Example:\n  embedmill models list")]
    List,
    /// Show a model without loading it: family, sizes, modules, maximum length, prompts, hashes
    #[command(after_help = "Example:\n  embedmill models show ./model --json | jq .dim")]
    Show(ShowArgs),
    /// Download a model to the cache, or the files missing there
    #[command(after_help = "Example:\n  embedmill models pull sentence-transformers/all-MiniLM-L6-v2")]
    Pull(WhichArgs),
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// Model id on the Hugging Face hub, or path of a model folder
    #[arg(value_name = "MODEL")]
    model: String,
    /// Branch, tag or commit of the model on the hub
    #[arg(long, default_value = "main")]
    revision: String,
    /// Folder for downloaded models [default: the cache of the Hugging Face tools]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<std::path::PathBuf>,
    /// Never use the network
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Route through a model with a Router module, such as query or document
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// TorchScript file or AOTInductor package (.pt2) that replaces the model's transformer. It is loaded to see what it
    /// returns, which runs the code in it
    #[arg(long, value_name = "FILE")]
    script: Option<std::path::PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl WhichArgs {
    fn config(self) -> ModelConfig {
        ModelConfig {
            id: Some(self.model),
            revision: self.revision,
            cache: self.cache,
            offline: self.offline,
            ..ModelConfig::default()
        }
    }
}

/// Runs the subcommand.
pub(crate) fn models(args: ModelsArgs) -> anyhow::Result<()> {
    match args.command {
        ModelsCommand::List => print(&list()),
        ModelsCommand::Show(args) => show(args),
        ModelsCommand::Pull(args) => pull(args),
    }
}

fn list() -> String {
    let families = torch::families();
    let names = |names: &[&str]| names.join(", ");
    let families = match families.as_slice() {
        [] => "none (this embedmill was built without libtorch)".to_owned(),
        some => names(some),
    };
    format!(
        "families (model_type of config.json)\n  {families}\n\
         modules after the transformer\n  Pooling, Dense, LayerNorm, Normalize, Dropout; a Router before or after\n\
         pooling, alone and side by side\n  {}\n\
         activations of Dense\n  {}\n",
        names(&PoolingMode::ALL.map(PoolingMode::as_str)),
        names(&DenseActivation::ALL.map(DenseActivation::as_str)),
    )
}

/// Shows a model by its files. A model that is not in the cache is not downloaded.
fn show(args: ShowArgs) -> anyhow::Result<()> {
    let config = ModelConfig { route: args.route, script: args.script, ..args.which.config() };
    let mut hub = hub_settings(&config);
    hub.offline = true;
    let spec = spec(&config, &hub, &()).map_err(|error| match error {
        LoadError::Hub(HubError::Offline { id, cache, .. }) => {
            usage(format!("{id}: not in the cache {} (`embedmill models pull {id}` downloads it)", cache.display()))
        }
        other => Error::from(other),
    })?;
    if args.json {
        return print(&serde_json::to_string_pretty(&as_json(&spec))?);
    }
    print(&as_text(&spec)?)
}

fn as_json(spec: &ModelSpec) -> serde_json::Value {
    json!({
        "model": spec.id,
        "revision": spec.revision,
        "folder": spec.folder,
        "family": spec.family,
        "script": spec.script.as_ref().map(|script| &script.file),
        "layers": spec.layers,
        "hidden": spec.hidden,
        "dim": spec.dim,
        "vocab_size": spec.vocab_size,
        "modules": spec.chain.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pooling": spec.pooling(),
        "normalize": spec.normalize(),
        "max_seq_length": spec.max_seq_length,
        "prompts": spec.prompts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "default_prompt_name": spec.default_prompt_name,
        "include_prompt": spec.include_prompt,
        "weights_sha256": spec.weights_sha256,
        "modules_sha256": spec.modules_sha256,
    })
}

fn as_text(spec: &ModelSpec) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<16}{value}");
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
    line("model", &spec.id)?;
    line("revision", &or_none(&spec.revision))?;
    line("folder", &spec.folder.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default())?;
    line("family", &spec.family)?;
    match &spec.script {
        None => line(
            "sizes",
            &format!("{} layers, hidden size {}, vocabulary of {} tokens", spec.layers, spec.hidden, spec.vocab_size),
        )?,
        Some(script) => line("script", &format!("{}, hidden size {}", script.file.display(), spec.hidden))?,
    }
    line("dims", &spec.dim.to_string())?;
    for (index, module) in spec.chain.iter().enumerate() {
        line(if index == 0 { "modules" } else { "" }, &module.to_string())?;
    }
    line("length", &format!("at most {} tokens", spec.max_seq_length))?;
    let default = spec.default_prompt_name.as_deref();
    for (name, prompt) in &spec.prompts {
        let is_default = if default == Some(name.as_str()) { ", the default" } else { "" };
        line("prompt", &format!("{name}: {prompt:?}{is_default}"))?;
    }
    if !spec.include_prompt {
        line("", "tokens of prompts are excluded from the pooling")?;
    }
    line("weights", &format!("sha256 {}", or_none(&spec.weights_sha256)))?;
    if spec.modules_sha256.is_some() {
        line("module weights", &format!("sha256 {}", or_none(&spec.modules_sha256)))?;
    }
    Ok(out)
}

fn pull(args: WhichArgs) -> anyhow::Result<()> {
    let config = args.config();
    config.check()?;
    let bar = LoadBar::start();
    let id = config.id.as_deref().unwrap_or_default();
    let resolved = resolve(id, &config.revision, &hub_settings(&config), &bar);
    bar.finish();
    let resolved = resolved.map_err(LoadError::from)?;
    // The downloaded model may still be unsupported, which is better reported now than at the first run.
    let mut hub = hub_settings(&config);
    hub.offline = true;
    let spec = spec(&config, &hub, &())?;
    eprintln!("{}", spec.describe());
    print(&resolved.path.display().to_string())
}

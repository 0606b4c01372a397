//! `search`: the nearest neighbours of a query, embedded with the model that made the vectors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::embedder::{EmbedError, Embedder};
use crate::model::spec::ModelSpec;
use crate::model::{Backend, ModelConfig};
use crate::output::read::OutputFile;
use crate::search::Nearest;
use clap::Args;
use serde_json::Value;

use super::inspect::shorten;
use super::progress::LoadBar;
use super::terminal::{print, usage};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill search vectors.arrow \"how do I retry a request?\"
  embedmill search vectors/*.parquet \"retries\" -k 10 --json | jq .id")]
pub(crate) struct SearchArgs {
    /// Arrow or Parquet files written by embedmill, followed by the text to search for
    #[arg(required = true, num_args = 2.., value_names = ["OUT", "QUERY"])]
    files_and_query: Vec<String>,
    /// Number of rows to find
    #[arg(short, value_name = "ROWS", default_value_t = 5)]
    k: usize,
    /// Model id or folder, if the model is no longer where it was when the vectors were made
    #[arg(short, long)]
    model: Option<String>,
    /// TorchScript file or package that the vectors were made with. Loading it runs the code in it: use only files that you
    /// trust
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Prompt to prepend to the query [default: the model's prompt named query, if it has one]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Name of another prompt defined in the model's files
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    prompt_name: Option<String>,
    /// Calibration file that int8 or uint8 vectors were made with
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
    /// Never use the network
    #[arg(long)]
    offline: bool,
}

/// Metadata that must be equal in all files, so that one query vector is comparable with all of their vectors.
const SAME_MODEL: [&str; 9] =
    ["weights_sha256", "modules_sha256", "modules", "pooling", "normalize", "dense", "truncate_dim", "dim", "backend"];
/// Metadata that reveals whether the query was embedded with the model that made the vectors.
const SAME_WEIGHTS: [&str; 2] = ["weights_sha256", "modules_sha256"];

/// Characters of a row's text that are shown.
const TEXT_SHOWN: usize = 300;

/// Embeds the query and prints the nearest rows of all files.
pub(crate) fn search(mut args: SearchArgs) -> anyhow::Result<()> {
    let query = args.files_and_query.pop().unwrap_or_default();
    let mut files = Vec::new();
    for path in &args.files_and_query {
        let file = OutputFile::open(&PathBuf::from(path))?;
        let quantizer = file.quantizer(args.ranges.as_deref())?;
        files.push((file, quantizer));
    }
    let provenance = files.first().map(|(file, _)| file.provenance()).unwrap_or_default();
    let (vector, spec) = embed(&query, &model(&provenance, &args)?)?;
    let query_provenance: BTreeMap<&str, String> = spec.provenance().into_iter().collect();
    // The routes of a Router for queries and for documents have different weights.
    let has_routes = provenance.contains_key("route") || query_provenance.contains_key("route");
    let differs = |key: &&&str| !has_routes && query_provenance.get(**key) != provenance.get(**key);
    if let Some(key) = SAME_WEIGHTS.iter().find(differs) {
        let (model, made_by) = (&spec.id, provenance.get("model_id").cloned().unwrap_or_default());
        return Err(usage(format!(
            "--model: {model} is not the model that made the vectors (`{key}` differs); expected {made_by} as it was then"
        )));
    }
    let mut nearest = Nearest::new(&vector, args.k);
    for ((file, quantizer), path) in files.iter_mut().zip(&args.files_and_query) {
        let here = file.provenance();
        if let Some(key) = SAME_MODEL.iter().find(|key| here.get(**key) != provenance.get(**key)) {
            let message = format!("{path}: vectors of another model; expected the model of the first file");
            return Err(usage(format!("{message} (`{key}` differs)")));
        }
        while let Some(vectors) = file.next_vectors(quantizer) {
            nearest.scan(&vectors?).map_err(|message| usage(format!("{path}: {message}")))?;
        }
    }
    let mut out = String::new();
    for (index, hit) in nearest.into_hits().into_iter().enumerate() {
        if args.json {
            let mut row = hit.row;
            row["score"] = hit.score.into();
            writeln!(out, "{row}")?;
        } else {
            writeln!(out, "{}. {:.3}  {}", index + 1, hit.score, text(&hit.row, "id"))?;
            writeln!(out, "   {}", shorten(&text(&hit.row, "text"), TEXT_SHOWN))?;
        }
    }
    print(&out)
}

fn text(row: &Value, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_string()
}

/// The configuration of the model that made the vectors, from the metadata of their file.
fn model(provenance: &BTreeMap<String, String>, args: &SearchArgs) -> anyhow::Result<ModelConfig> {
    let file = args.files_and_query.first().map_or("", String::as_str);
    let wrong = |message: String| usage(format!("{file}: {message}"));
    let number = |key: &str, value: String| -> anyhow::Result<usize> {
        value.parse().map_err(|_| wrong(format!("embedmill.{key}: found {value:?}; expected a whole number")))
    };
    let value_of = |key: &str| provenance.get(key).cloned();
    let parse = |key: &str| -> anyhow::Result<Option<String>> { Ok(value_of(key).filter(|value| !value.is_empty())) };
    let backend: Backend = value_of("backend")
        .ok_or_else(|| wrong("no metadata of a model; expected an output of embedmill".into()))?
        .parse()
        .map_err(wrong)?;
    if let (Some(name), None) = (value_of("script"), &args.script) {
        return Err(usage(format!(
            "--script: missing; expected {name}, which made the vectors (only if you trust it)"
        )));
    }
    let defaults = ModelConfig::default();
    Ok(ModelConfig {
        id: args.model.clone().or(parse("model_id")?).filter(|_| backend == Backend::Torch),
        revision: parse("model_revision")?.filter(|_| args.model.is_none()).unwrap_or(defaults.revision),
        backend,
        script: args.script.clone(),
        pooling: parse("pooling")?.map(|pooling| pooling.parse()).transpose().map_err(wrong)?,
        dense: parse("dense")?.map(|dense| dense.parse()).transpose().map_err(wrong)?,
        normalize: parse("normalize")?.map(|value| value == "true"),
        truncate_dim: parse("truncate_dim")?.map(|dim| number("truncate_dim", dim)).transpose()?,
        prompt: args.prompt.clone(),
        prompt_name: args.prompt_name.clone(),
        include_prompt: parse("include_prompt")?.map(|value| value == "true"),
        route: parse("route")?.filter(|_| backend == Backend::Torch),
        max_seq_length: parse("max_seq_length")?.map(|value| number("max_seq_length", value)).transpose()?,
        hash_dim: parse("dim")?.map(|value| number("dim", value)).transpose()?.unwrap_or(defaults.hash_dim),
        offline: args.offline,
        ..defaults
    })
}

/// The vector of the query, and the model that embedded it.
fn embed(text: &str, config: &ModelConfig) -> anyhow::Result<(Vec<f32>, Arc<ModelSpec>)> {
    let bar = LoadBar::start();
    let mut embedder = Embedder::load_for_queries_with(config, &bar)?;
    bar.finish();
    let vectors = embedder.embed(&[text]).map_err(|error| match error {
        // There is one text, so its index says nothing.
        EmbedError::Tokenize { error, .. } => anyhow::Error::from(error),
        EmbedError::Encode(error) => error.into(),
    })?;
    Ok((vectors.row(0).to_vec(), Arc::clone(embedder.spec())))
}

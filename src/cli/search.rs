//! `search`: the rows nearest to a text, with the model that made their vectors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::columnar::Tokens;
use crate::config::hub_settings;
use crate::device::Devices;
use crate::encode::{devices, factory, query_spec};
use crate::model::spec::ModelSpec;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Backend, ModelConfig};
use crate::output::read::OutputFile;
use crate::search::Nearest;
use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::inspect::shorten;
use super::progress::LoadBar;
use super::usage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill search vectors.arrow \"how do I retry a request?\"
  embedmill search vectors/*.parquet \"retries\" -k 10 --json | jq .id")]
pub struct SearchArgs {
    /// Arrow or Parquet files that embedmill wrote, then the text to look for
    #[arg(required = true, num_args = 2.., value_names = ["OUT", "QUERY"])]
    files_and_query: Vec<String>,
    /// How many rows to find
    #[arg(short, default_value_t = 5)]
    k: usize,
    /// The model's id or folder, where it is no longer where the vectors were made
    #[arg(short, long)]
    model: Option<String>,
    /// The TorchScript file or package that the vectors were made with; it runs the code in it, so only one that you trust
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Text to put before the query [default: the model's prompt named query, where it has one]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The name of another of the model's own prompts
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    prompt_name: Option<String>,
    /// The calibration file that int8 and uint8 vectors were made with
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
    /// Never use the network
    #[arg(long)]
    offline: bool,
}

/// What has to be the same for vectors to be compared with one query's.
const SAME_MODEL: [&str; 9] =
    ["weights_sha256", "modules_sha256", "modules", "pooling", "normalize", "dense", "truncate_dim", "dim", "backend"];
/// What of it the model that embeds the query can have otherwise, if it is not the one that made the vectors.
const SAME_WEIGHTS: [&str; 2] = ["weights_sha256", "modules_sha256"];

/// Characters of a row's text that are shown.
const TEXT_SHOWN: usize = 300;

pub fn search(mut args: SearchArgs) -> anyhow::Result<()> {
    let query = args.files_and_query.pop().unwrap_or_default();
    let mut files = Vec::new();
    for path in &args.files_and_query {
        let file = OutputFile::open(&PathBuf::from(path))?;
        let quantizer = file.quantizer(args.ranges.as_deref())?;
        files.push((file, quantizer));
    }
    let provenance = files.first().map(|(file, _)| file.provenance()).unwrap_or_default();
    let (vector, spec) = embed(&query, model(&provenance, &args)?)?;
    let of_query: BTreeMap<&str, String> = spec.provenance().into_iter().collect();
    // A Router's ways for queries and documents have weights of their own.
    let one_way = !provenance.contains_key("route") && !of_query.contains_key("route");
    let differs = |key: &&&str| one_way && of_query.get(**key) != provenance.get(**key);
    if let Some(key) = SAME_WEIGHTS.iter().find(differs) {
        let (model, made_by) = (&spec.id, provenance.get("model_id").cloned().unwrap_or_default());
        let message = format!("{model} is not the model that made the vectors, which was {made_by} (`{key}` differs)");
        return Err(usage(format!("{message}; give that one by --model")));
    }
    let mut nearest = Nearest::new(&vector, args.k);
    for ((file, quantizer), path) in files.iter_mut().zip(&args.files_and_query) {
        let here = file.provenance();
        if let Some(key) = SAME_MODEL.iter().find(|key| here.get(**key) != provenance.get(**key)) {
            let message =
                format!("{path}: its vectors are of another model than those of the first file (`{key}` differs)");
            return Err(usage(message));
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
    super::print(&out)
}

fn text(row: &Value, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_string()
}

/// The model that made the vectors, as their file tells.
fn model(provenance: &BTreeMap<String, String>, args: &SearchArgs) -> anyhow::Result<ModelConfig> {
    let told = |key: &str| provenance.get(key).cloned();
    let parse = |key: &str| -> anyhow::Result<Option<String>> { Ok(told(key).filter(|value| !value.is_empty())) };
    let backend: Backend = told("backend")
        .ok_or_else(|| usage("the file does not say which model made its vectors; is it embedmill's output?"))?
        .parse()
        .map_err(usage)?;
    if let (Some(name), None) = (told("script"), &args.script) {
        let message = format!("the vectors were made with the script {name}; give it by --script, if you trust it");
        return Err(usage(message));
    }
    let defaults = ModelConfig::default();
    Ok(ModelConfig {
        id: args.model.clone().or(parse("model_id")?).filter(|_| backend == Backend::Torch),
        revision: parse("model_revision")?.filter(|_| args.model.is_none()).unwrap_or(defaults.revision),
        backend,
        script: args.script.clone(),
        pooling: parse("pooling")?.map(|pooling| pooling.parse()).transpose().map_err(usage)?,
        dense: parse("dense")?.map(|dense| dense.parse()).transpose().map_err(usage)?,
        normalize: parse("normalize")?.map(|value| value == "true"),
        truncate_dim: parse("truncate_dim")?.map(|dim| dim.parse()).transpose().context("truncate_dim")?,
        prompt: args.prompt.clone(),
        prompt_name: args.prompt_name.clone(),
        include_prompt: parse("include_prompt")?.map(|value| value == "true"),
        route: parse("route")?.filter(|_| backend == Backend::Torch),
        max_seq_length: parse("max_seq_length")?.map(|value| value.parse()).transpose().context("max_seq_length")?,
        hash_dim: parse("dim")?.map(|value| value.parse()).transpose().context("dim")?.unwrap_or(defaults.hash_dim),
        offline: args.offline,
        ..defaults
    })
}

/// The text's vector, and the model that made it.
fn embed(text: &str, config: ModelConfig) -> anyhow::Result<(Vec<f32>, Arc<ModelSpec>)> {
    let bar = LoadBar::start();
    let spec = Arc::new(query_spec(&config, &hub_settings(&config), &bar)?);
    let device = devices::resolve(&Devices::Auto)?.into_iter().next().context("there is no device")?;
    let mut encoder = factory(&spec, &[device])(&device)?;
    bar.finish();
    let mut tokens = Tokens::default();
    Tokenizer::load(&spec)?.encode(text, &mut tokens)?;
    let matrix = encoder.encode(&std::iter::once(tokens.ids(0)).collect())?;
    Ok((matrix.row(0).to_vec(), spec))
}

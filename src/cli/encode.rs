//! `encode`: the same engine without a pipeline file.

use std::path::PathBuf;

use clap::Args;
use embedmill::config::{Config, hub_settings};
use embedmill::dead_letter::DeadLetterConfig;
use embedmill::encode::{Backend, ModelConfig, PoolingMode};
use embedmill::plan::Plan;
use embedmill::sink::SinkConfig;
use embedmill::sink::file::{ArrowConfig, ParquetConfig};
use embedmill::sink::stdout::{StdoutConfig, StdoutFormat};
use embedmill::source::file::{FilesConfig, Format};
use embedmill::text::field::{KeepConfig, KeepField, OneOrMany, RecordConfig};

use super::running::{self, ShownAs};
use super::usage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2
  embedmill encode 'corpus/**/*.jsonl.zst' -o vectors/ --model ./model --id id --text title,body --keep lang,views:int64
  embedmill encode notes/ --format document -o notes.parquet --model ./model --dead-letter rejected.jsonl
  cat lines.txt | embedmill encode - --format text -o - --model ./model | jq .vector[0]")]
pub struct EncodeArgs {
    /// Files, folders, globs in quotes, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// A file ending in .arrow or .parquet, a folder ending in /, or - for standard output
    #[arg(short, long, value_name = "OUT")]
    output: String,
    /// arrow, parquet or jsonl, where the output's name does not say; jsonl and arrow for standard output
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<String>,

    /// A model id on the Hugging Face hub, or the path of a model folder
    #[arg(short, long, value_name = "MODEL", help_heading = "Model")]
    model: Option<String>,
    /// Branch, tag or commit of a model id
    #[arg(long, default_value = "main", help_heading = "Model")]
    revision: String,
    /// torch, or hash: no model, for trying things out
    #[arg(long, default_value = "torch", help_heading = "Model")]
    backend: Backend,
    /// mean, max or cls [default: the model's own]
    #[arg(long, help_heading = "Model")]
    pooling: Option<PoolingMode>,
    /// Scale vectors to length 1 [default: the model's own]
    #[arg(long, overrides_with = "no_normalize", help_heading = "Model")]
    normalize: bool,
    /// Leave vectors as they are [default: the model's own]
    #[arg(long, help_heading = "Model")]
    no_normalize: bool,
    /// Most tokens of a text, special tokens included [default: the model's own]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    max_seq_length: Option<usize>,
    /// Where downloaded models are kept [default: the cache of the Hugging Face tools]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    cache: Option<PathBuf>,
    /// Never use the network
    #[arg(long, help_heading = "Model")]
    offline: bool,

    /// Devices, one worker each: cpu, cuda:0, …, or auto; cpu may be listed several times
    #[arg(short, long, value_delimiter = ',', default_value = "auto", help_heading = "Work")]
    device: Vec<String>,
    /// Threads of each CPU worker [default: the cores, shared among the CPU workers]
    #[arg(long, help_heading = "Work")]
    threads: Option<usize>,
    /// Most tokens that go through the model at once
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    batch_tokens: Option<usize>,
    /// Most tokens that are sorted and delivered together
    #[arg(long, value_name = "TOKENS", help_heading = "Work")]
    window_tokens: Option<usize>,

    /// jsonl, json, text (a line a record), document (a file a record), csv, tsv, parquet, arrow, or auto
    #[arg(short, long, default_value = "auto", value_parser = format, help_heading = "Records")]
    format: Format,
    /// The field that is the id: a name, or a JSON pointer such as /meta/id [default: path:line]
    #[arg(long, value_name = "FIELD", help_heading = "Records")]
    id: Option<String>,
    /// The field that is the text; of several, the texts are joined
    #[arg(long, value_name = "FIELD", value_delimiter = ',', default_value = "text", help_heading = "Records")]
    text: Vec<String>,
    /// What stands between joined texts [default: a line break]
    #[arg(long, value_name = "TEXT", help_heading = "Records")]
    join: Option<String>,
    /// The text as a template over the fields, as in '{{ title }}: {{ body }}'
    #[arg(long, conflicts_with = "text", help_heading = "Records")]
    template: Option<String>,
    /// Fields that become columns; NAME:TYPE where the first records do not show the type
    #[arg(long, value_name = "FIELD", value_delimiter = ',', help_heading = "Records")]
    keep: Vec<String>,
    /// Leave the column `text` out of the output
    #[arg(long, help_heading = "Records")]
    no_text: bool,
    /// Write records that cannot be embedded to this file of JSON lines and go on
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    dead_letter: Option<PathBuf>,

    /// How the closing summary on standard error is written
    #[arg(long, value_enum, default_value_t = ShownAs::Text)]
    summary: ShownAs,
}

pub fn encode(args: EncodeArgs) -> anyhow::Result<()> {
    let summary = args.summary;
    let config = config(args)?;
    let plan = Plan::new(&config).map_err(|error| usage(format!("{}: {}", flag(&error.key), error.message)))?;
    running::run(plan, &hub_settings(&config.model), summary)
}

/// The flag that sets a key of the pipeline file, since that is what the user of `encode` wrote.
fn flag(key: &str) -> &str {
    match key {
        "model.id" => "--model",
        "model.max_seq_length" => "--max-seq-length",
        "model.threads" => "--threads",
        "model.revision" => "--revision",
        "batch.tokens" => "--batch-tokens",
        "window.tokens" => "--window-tokens",
        "devices" => "--device",
        "record.id" => "--id",
        "record.text" => "--text",
        "record.template" => "--template",
        "record.keep" => "--keep",
        "dead_letter.path" => "--dead-letter",
        "sink.arrow.path" | "sink.parquet.path" => "--output",
        key => key,
    }
}

fn config(args: EncodeArgs) -> anyhow::Result<Config> {
    let mut config = Config {
        sink: sink(&args.output, args.output_format.as_deref())?,
        dead_letter: args.dead_letter.map(|path| DeadLetterConfig { path: Some(path), topic: None }),
        devices: args.device,
        record: RecordConfig {
            id: args.id,
            text: OneOrMany::Many(args.text),
            template: args.template,
            keep: args.keep.iter().map(|text| keep(text)).collect(),
            ..Default::default()
        },
        model: ModelConfig {
            id: args.model,
            revision: args.revision,
            backend: args.backend,
            pooling: args.pooling,
            normalize: match (args.normalize, args.no_normalize) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            max_seq_length: args.max_seq_length,
            cache: args.cache,
            offline: args.offline,
            threads: args.threads,
            ..Default::default()
        },
        ..Default::default()
    };
    config.source.files = Some(FilesConfig { paths: args.inputs, format: args.format, ..Default::default() });
    config.output.text = !args.no_text;
    config.record.join = args.join.unwrap_or(config.record.join);
    config.batch.tokens = args.batch_tokens.unwrap_or(config.batch.tokens);
    config.window.tokens = args.window_tokens.unwrap_or(config.window.tokens);
    Ok(config)
}

/// A format by the name that it has in the pipeline file.
fn format(name: &str) -> Result<Format, serde::de::value::Error> {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    Format::deserialize(name.into_deserializer())
}

/// `FIELD` or `FIELD:TYPE`.
fn keep(text: &str) -> KeepConfig {
    match text.split_once(':') {
        None => KeepConfig::Name(text.into()),
        Some((field, data_type)) => {
            KeepConfig::Full(KeepField { field: field.into(), column: None, data_type: Some(data_type.into()) })
        }
    }
}

/// The sink that the output's name, or the format, asks for.
fn sink(output: &str, format: Option<&str>) -> anyhow::Result<SinkConfig> {
    let by_name = match output.rsplit_once('.').map(|(_, extension)| extension) {
        Some("parquet") => Some("parquet"),
        Some("arrow" | "ipc" | "feather") => Some("arrow"),
        _ if output.ends_with('/') => Some("arrow"),
        _ => None,
    };
    if output == "-" {
        let format = match format {
            None | Some("jsonl") => StdoutFormat::Jsonl,
            Some("arrow") => StdoutFormat::Arrow,
            Some(other) => {
                return Err(usage(format!("--output-format: standard output can be jsonl or arrow, not {other}")));
            }
        };
        return Ok(SinkConfig { stdout: Some(StdoutConfig { format }), ..Default::default() });
    }
    match format.or(by_name) {
        Some("arrow") => Ok(SinkConfig {
            arrow: Some(ArrowConfig { path: output.into(), ..Default::default() }),
            ..Default::default()
        }),
        Some("parquet") => {
            let parquet = ParquetConfig { path: output.into(), ..Default::default() };
            Ok(SinkConfig { parquet: Some(parquet), ..Default::default() })
        }
        Some(other) => Err(usage(format!("--output-format: files can be arrow or parquet, not {other}"))),
        None => Err(usage(format!(
            "--output: cannot tell the format of {output}; name it .arrow or .parquet, end a folder with /, or give \
             --output-format"
        ))),
    }
}

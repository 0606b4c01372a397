//! `encode`: the same engine without a pipeline file.

use std::path::PathBuf;

use crate::config::SinkConfig;
use crate::config::{Config, hub_settings};
use crate::model::OutputValue;
use crate::output::quantize::{OutputPrecision, RangesConfig};
use crate::plan::Plan;
use crate::sink::file::FileSinkConfig;
use crate::sink::stdout::{StdoutConfig, StdoutFormat};
use clap::Args;

use super::arguments::{self, ModelArgs, RecordArgs, WorkArgs};
use super::run::{self, ShownAs};
use super::usage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2
  embedmill encode 'corpus/**/*.jsonl.zst' -o vectors/ --model ./model --id id --text title,body --keep lang,views:int64
  embedmill encode notes/ --format document -o notes.parquet --model ./model --dead-letter rejected.jsonl
  embedmill encode docs/*.jsonl -o vectors.arrow --model ./model --output-precision int8 --ranges ranges.json
  cat lines.txt | embedmill encode - --format text -o - --model ./model | jq .vector[0]")]
pub struct EncodeArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// A file ending in .arrow or .parquet, a folder ending in /, or - for standard output
    #[arg(short, long, value_name = "OUT")]
    output: String,
    /// arrow, parquet or jsonl, where the output's name does not say; jsonl and arrow for standard output
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<String>,
    /// What a text becomes: sentence_embedding, its vector, or token_embeddings, the vectors of its tokens
    #[arg(long, value_name = "VALUE", default_value = "sentence_embedding")]
    output_value: OutputValue,
    /// What vectors are written as: float32, int8, uint8, binary or ubinary
    #[arg(long, value_name = "PRECISION", default_value = "float32")]
    output_precision: OutputPrecision,
    /// Of int8 and uint8: a file that `embedmill calibrate` made, or LEAST,MOST
    #[arg(long, value_name = "FILE", allow_hyphen_values = true, value_parser = ranges)]
    ranges: Option<RangesConfig>,
    /// Leave the column `text` out of the output
    #[arg(long, help_heading = "Records")]
    no_text: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// How the closing summary on standard error is written
    #[arg(long, value_enum, default_value_t = ShownAs::Text)]
    summary: ShownAs,
}

pub fn encode(args: EncodeArgs) -> anyhow::Result<()> {
    let summary = args.summary;
    let config = config(args)?;
    let plan = Plan::new(&config)?;
    run::execute(plan, &hub_settings(&config.model), summary, None)
}

fn config(args: EncodeArgs) -> anyhow::Result<Config> {
    let mut config = arguments::config(args.model, args.work, args.records);
    config.sink = sink(&args.output, args.output_format.as_deref())?;
    config.output.text = !args.no_text;
    config.output.value = args.output_value;
    config.output.precision = args.output_precision;
    config.output.ranges = args.ranges;
    Ok(config)
}

/// `LEAST,MOST` or a file.
fn ranges(text: &str) -> Result<RangesConfig, std::convert::Infallible> {
    let numbers: Vec<f32> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    Ok(match numbers[..] {
        [least, most] if text.matches(',').count() == 1 => RangesConfig::Same([least, most]),
        _ => RangesConfig::File(PathBuf::from(text)),
    })
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
    let files = Some(FileSinkConfig { path: output.into(), ..Default::default() });
    match format.or(by_name) {
        Some("arrow") => Ok(SinkConfig { arrow: files, ..Default::default() }),
        Some("parquet") => Ok(SinkConfig { parquet: files, ..Default::default() }),
        Some(other) => Err(usage(format!("--output-format: files can be arrow or parquet, not {other}"))),
        None => Err(usage(format!(
            "--output: cannot tell the format of {output}; name it .arrow or .parquet, end a folder with /, or give \
             --output-format"
        ))),
    }
}

//! `encode`: embeds files by command line flags, without a pipeline file.

use std::path::PathBuf;

use crate::config::{Config, SinkConfig, hub_settings};
use crate::model::OutputValue;
use crate::output::quantize::{OutputPrecision, RangesConfig};
use crate::plan::Plan;
use crate::sink::file::FileSinkConfig;
use crate::sink::stdout::{StdoutConfig, StdoutFormat};
use clap::Args;

use super::arguments::{self, ModelArgs, RecordArgs, WorkArgs};
use super::run::{self, SummaryFormat};
use super::terminal::usage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2
  embedmill encode 'corpus/**/*.jsonl.zst' -o vectors/ --model ./model --id id --text title,body --keep lang,views:int64
  embedmill encode notes/ --format document -o notes.parquet --model ./model --dead-letter rejected.jsonl
  embedmill encode docs/*.jsonl -o vectors.arrow --model ./model --output-precision int8 --ranges ranges.json
  cat lines.txt | embedmill encode - --format text -o - --model ./model | jq .vector[0]")]
pub(crate) struct EncodeArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// Output: a file ending in .arrow or .parquet, a folder ending in /, or - for standard output
    #[arg(short, long, value_name = "OUT")]
    output: String,
    /// Output format, if the name of the output does not tell: arrow or parquet; for standard output jsonl or arrow
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<String>,
    /// What to compute: sentence_embedding (one vector per text) or token_embeddings (one vector per token)
    #[arg(long, value_name = "VALUE", default_value = "sentence_embedding")]
    output_value: OutputValue,
    /// Data type of the vectors in the output: float32, int8, uint8, binary or ubinary
    #[arg(long, value_name = "PRECISION", default_value = "float32")]
    output_precision: OutputPrecision,
    /// Quantization ranges for int8 and uint8: a file made by `embedmill calibrate`, or MIN,MAX such as -0.25,0.25
    #[arg(long, value_name = "FILE|MIN,MAX", allow_hyphen_values = true, value_parser = ranges)]
    ranges: Option<RangesConfig>,
    /// Omit the column `text` from the output
    #[arg(long, help_heading = "Records")]
    no_text: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Format of the final summary on standard error
    #[arg(long, value_enum, default_value_t = SummaryFormat::Text)]
    summary: SummaryFormat,
}

/// Runs the pipeline that the flags describe.
pub(crate) fn encode(args: EncodeArgs) -> anyhow::Result<()> {
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

/// Parses `MIN,MAX`; anything else is the name of a calibration file.
fn ranges(text: &str) -> Result<RangesConfig, std::convert::Infallible> {
    let numbers: Vec<f32> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    Ok(match numbers[..] {
        [min, max] if text.matches(',').count() == 1 => RangesConfig::Same([min, max]),
        _ => RangesConfig::File(PathBuf::from(text)),
    })
}

/// The sink by the name of the output, or by the format if one is given.
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
                return Err(usage(format!(
                    "--output-format: found {other:?}; expected jsonl or arrow for standard output"
                )));
            }
        };
        return Ok(SinkConfig { stdout: Some(StdoutConfig { format }), ..Default::default() });
    }
    let files = Some(FileSinkConfig { path: output.into(), ..Default::default() });
    match format.or(by_name) {
        Some("arrow") => Ok(SinkConfig { arrow: files, ..Default::default() }),
        Some("parquet") => Ok(SinkConfig { parquet: files, ..Default::default() }),
        Some(other) => Err(usage(format!("--output-format: found {other:?}; expected arrow or parquet for files"))),
        None => Err(usage(format!(
            "--output: {output:?}: unknown format; expected a name ending in .arrow or .parquet, a folder ending in /, or \
             --output-format"
        ))),
    }
}

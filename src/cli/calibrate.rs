//! `calibrate`: computes the quantization ranges of a model's vectors, for `output.precision` int8 and uint8.

use std::path::PathBuf;

use crate::config::{SinkConfig, hub_settings};
use crate::plan::Plan;
use crate::sink::ranges::RangesSinkConfig;
use clap::Args;

use super::arguments::{self, ModelArgs, RecordArgs, WorkArgs};
use super::run::{self, SummaryFormat};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill calibrate sample.jsonl -o ranges.json --model sentence-transformers/all-MiniLM-L6-v2
  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2 \\
    --output-precision int8 --ranges ranges.json

The sample should be representative: values outside its ranges are clipped. A few thousand texts are enough.")]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// Calibration file to write
    #[arg(short, long, value_name = "RANGES.json")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Format of the final summary on standard error
    #[arg(long, value_enum, default_value_t = SummaryFormat::Text)]
    summary: SummaryFormat,
}

/// Runs a pipeline whose sink is a calibration file.
pub(crate) fn calibrate(args: CalibrateArgs) -> anyhow::Result<()> {
    let mut config = arguments::config(args.model, args.work, args.records);
    config.sink = SinkConfig { ranges: Some(RangesSinkConfig { path: args.output }), ..Default::default() };
    config.output.text = false;
    let plan = Plan::new(&config)?;
    run::execute(plan, &hub_settings(&config.model), args.summary, None)
}

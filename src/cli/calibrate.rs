//! `calibrate`: between which numbers a model's vectors lie, for `output.precision` int8 and uint8.

use std::path::PathBuf;

use crate::config::SinkConfig;
use crate::config::hub_settings;
use crate::plan::Plan;
use crate::sink::ranges::RangesSinkConfig;
use clap::Args;

use super::arguments::{self, ModelArgs, RecordArgs, WorkArgs};
use super::run::{self, ShownAs};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill calibrate sample.jsonl -o ranges.json --model sentence-transformers/all-MiniLM-L6-v2
  embedmill encode docs/*.jsonl -o vectors.arrow --output-precision int8 --ranges ranges.json --model …

The sample should be like the whole: values outside its ranges are clipped. Some thousands of texts are enough.")]
pub struct CalibrateArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// The calibration file
    #[arg(short, long, value_name = "RANGES.json")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// How the closing summary on standard error is written
    #[arg(long, value_enum, default_value_t = ShownAs::Text)]
    summary: ShownAs,
}

pub fn calibrate(args: CalibrateArgs) -> anyhow::Result<()> {
    let mut config = arguments::config(args.model, args.work, args.records);
    config.sink = SinkConfig { ranges: Some(RangesSinkConfig { path: args.output }), ..Default::default() };
    config.output.text = false;
    let plan = Plan::new(&config)?;
    run::execute(plan, &hub_settings(&config.model), args.summary, None)
}

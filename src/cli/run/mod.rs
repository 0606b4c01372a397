//! `run`: a pipeline file, until its source ends or a signal drains it.

mod execute;
mod reload;
mod signals;
mod summary;

use crate::config::hub_settings;
use clap::Args;

use super::pipeline_file::PipelineArgs;
pub use execute::run as execute;
use reload::Reloads;
pub use summary::ShownAs;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill run pipelines/files.yaml --set model.id=./all-MiniLM-L6-v2

The first Ctrl-C (or SIGTERM) stops reading and finishes what was read; a single output file is given up instead, since \
it could only be a part. What takes longer than drain_ms is given up; the second stops at once. Nothing half-written ever \
stays under a final name.

SIGHUP reads the pipeline file again (where standard error is no terminal): batch.tokens, batch.rows, window.tokens, \
window.linger_ms, drain_ms and log change while the run goes on; other keys are named in the log and need a restart.")]
pub struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stops once the Kafka topics are read to their ends; files always do
    #[arg(long)]
    until_end: bool,
    /// How the closing summary on standard error is written
    #[arg(long, value_enum, default_value_t = ShownAs::Text)]
    summary: ShownAs,
}

pub fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { pipeline, until_end, summary } = args;
    let plan_again = move || {
        pipeline.plan_with(|config| {
            if let Some(kafka) = &mut config.source.kafka {
                kafka.until_end |= until_end;
            }
        })
    };
    let (config, plan) = plan_again()?;
    let hub = hub_settings(&config.model);
    let reloads = Reloads { running: config, read: Box::new(move || Ok(plan_again()?.0)) };
    execute(plan, &hub, summary, Some(reloads))
}

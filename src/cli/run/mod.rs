//! `run`: runs a pipeline file until its source ends or a signal stops it.

mod execute;
mod reload;
mod signals;
mod summary;

use crate::config::hub_settings;
use clap::Args;

use super::pipeline_file::PipelineArgs;
pub(crate) use execute::run as execute;
use reload::ReloadSource;
pub(crate) use summary::SummaryFormat;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill run pipelines/files.yaml --set model.id=./all-MiniLM-L6-v2

The first Ctrl-C (or SIGTERM) stops reading and finishes the records already read, for at most drain_ms. A single output \
file is discarded instead, because it would be incomplete. A second Ctrl-C stops at once. Incomplete files never appear \
under their final names.

SIGHUP reloads the pipeline file (unless standard error is a terminal): batch.tokens, batch.rows, window.tokens, \
window.linger_ms, drain_ms and log are applied while the run continues; other changed keys are logged and need a restart.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Stop at the end of the Kafka topics, as is always done for files
    #[arg(long)]
    until_end: bool,
    /// Format of the final summary on standard error
    #[arg(long, value_enum, default_value_t = SummaryFormat::Text)]
    summary: SummaryFormat,
}

/// Plans the pipeline file and runs it.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { pipeline, until_end, summary } = args;
    let load = move || {
        pipeline.plan_with(|config| {
            if let Some(kafka) = &mut config.source.kafka {
                kafka.until_end |= until_end;
            }
        })
    };
    let (config, plan) = load()?;
    let hub = hub_settings(&config.model);
    let reload_source = ReloadSource { running: config, load: Box::new(move || Ok(load()?.0)) };
    execute(plan, &hub, summary, Some(reload_source))
}

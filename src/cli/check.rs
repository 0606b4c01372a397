//! `check`: checks that everything a pipeline needs is available.

use crate::check::{Finding, check};
use crate::config::hub_settings;
use clap::Args;

use super::pipeline_file::PipelineArgs;
use super::progress::LoadBar;
use super::terminal::print;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill check pipelines/kafka-enrich.yaml

Checks the source (files, or brokers, topics and consumer group), the model, the devices, the sink (its topic's partitions \
and maximum message size, and whether transactions can begin) and the dead letters. No record is read and no message is \
sent, so a missing permission to write to a topic shows only during a run. Exit code 0 if all checks pass, otherwise 1.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// Prints one line per check.
pub(crate) fn check_pipeline(args: CheckArgs) -> anyhow::Result<()> {
    let (config, plan) = args.pipeline.plan()?;
    let bar = LoadBar::start();
    let mut findings = Vec::new();
    check(&plan, &hub_settings(&config.model), &bar, &mut |finding| findings.push(finding));
    bar.finish();
    let count = findings.len();
    let failed = findings.iter().filter(|finding| finding.result.is_err()).count();
    for Finding { part, result } in findings {
        let (word, line) = match &result {
            Ok(line) => ("ok", line),
            Err(line) => ("FAILED", line),
        };
        print(&format!("{word:<7}{part:<12}{line}"))?;
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {count} checks failed");
    }
    Ok(())
}

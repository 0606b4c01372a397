//! `check`: whether everything that a pipeline needs is there.

use crate::check::{Finding, check};
use crate::config::hub_settings;
use clap::Args;

use super::pipeline_file::PipelineArgs;
use super::progress::LoadBar;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  embedmill check pipelines/kafka-enrich.yaml

Looks at the source (files, or brokers, topics and the group), the model, the devices, the sink (its topic's partitions
and limit, whether transactions can be begun) and the dead letters. Reads no record and sends no message; whether this
user may write to a topic shows only when it does. Exit code 0 if all is there, else 1.")]
pub struct CheckArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

pub fn check_pipeline(args: CheckArgs) -> anyhow::Result<()> {
    let (config, plan) = args.pipeline.plan()?;
    let bar = LoadBar::start();
    let mut findings = Vec::new();
    check(&plan, &hub_settings(&config.model), &bar, &mut |finding| findings.push(finding));
    bar.finish();
    let failed = findings.iter().filter(|finding| finding.result.is_err()).count();
    for Finding { part, result } in findings {
        let (word, line) = match &result {
            Ok(line) => ("ok", line),
            Err(line) => ("FAILED", line),
        };
        super::print(&format!("{word:<7}{part:<12}{line}"))?;
    }
    if failed > 0 {
        anyhow::bail!("{failed} of what the pipeline needs is not there");
    }
    Ok(())
}

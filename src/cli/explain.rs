//! `validate` and `explain`: what a pipeline file says, without running it.

use crate::config::hub_settings;
use crate::graph;
use clap::Args;

use super::pipeline_file::PipelineArgs;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  embedmill validate pipelines/files.yaml --set devices=[cpu]")]
pub struct ValidateArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill explain pipelines/files.yaml
  embedmill explain --graph pipelines/kafka-enrich.yaml > pipeline.mmd")]
pub struct ExplainArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Draw it as a Mermaid flowchart, which code forges show in Markdown
    #[arg(long)]
    graph: bool,
}

pub fn validate(args: ValidateArgs) -> anyhow::Result<()> {
    args.pipeline.plan()?;
    super::print(&format!("{}: valid", args.pipeline.shown()))
}

pub fn explain(args: ExplainArgs) -> anyhow::Result<()> {
    let (_, plan) = args.pipeline.plan()?;
    // The model's own files are shown where they are at hand; explaining never downloads.
    let mut hub = hub_settings(&plan.model);
    hub.offline = true;
    let spec = crate::encode::spec(&plan.model, &hub, &()).ok();
    let shown = if args.graph { graph::mermaid(&plan, spec.as_ref()) } else { plan.explain(spec.as_ref()) };
    super::print(&shown)
}

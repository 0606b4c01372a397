//! `validate` and `explain`: check a pipeline file, and print its execution plan, without running it.

use crate::config::hub_settings;
use crate::graph;
use clap::Args;

use super::pipeline_file::PipelineArgs;
use super::terminal::print;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  embedmill validate pipelines/files.yaml --set devices=[cpu]")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill explain pipelines/files.yaml
  embedmill explain --graph pipelines/kafka-enrich.yaml > pipeline.mmd")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Print the plan as a Mermaid flowchart, which GitHub and GitLab render in Markdown
    #[arg(long)]
    graph: bool,
}

/// Checks a pipeline file without opening anything.
pub(crate) fn validate(args: ValidateArgs) -> anyhow::Result<()> {
    args.pipeline.plan()?;
    print(&format!("{}: valid", args.pipeline.display()))
}

/// Prints the execution plan.
pub(crate) fn explain(args: ExplainArgs) -> anyhow::Result<()> {
    let (_, plan) = args.pipeline.plan()?;
    // The plan includes what the model's files say if they are available locally; nothing is downloaded for it.
    let mut hub = hub_settings(&plan.model);
    hub.offline = true;
    let spec = crate::encode::spec(&plan.model, &hub, &()).ok();
    let shown = if args.graph { graph::mermaid(&plan, spec.as_ref()) } else { plan.explain(spec.as_ref()) };
    print(&shown)
}

//! `replay`: dead letters back into the topics that they came from.

use crate::kafka::{ReplayOptions, replay};
use crate::plan::{DeadLetterPlan, SourcePlan};
use anyhow::bail;
use clap::Args;
use indicatif::HumanCount;

use super::pipeline_file::PipelineArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill replay pipelines/kafka-enrich.yaml --dry-run
  embedmill replay pipelines/kafka-enrich.yaml --stage extract

Reads `dead_letter.topic` from where the last replay stopped to its end, and puts each letter back as it came: value, key
and headers, into its own topic and partition, where the running pipeline reads it again. Letters and positions are one
transaction, so nothing is put back twice.")]
pub struct ReplayArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Only letters of this stage: read, extract, tokenize, encode, publish
    #[arg(long)]
    stage: Option<String>,
    /// Puts nothing back, only counts
    #[arg(long)]
    dry_run: bool,
}

pub fn replay_letters(args: ReplayArgs) -> anyhow::Result<()> {
    let (_, plan) = args.pipeline.plan()?;
    let (SourcePlan::Kafka(source), Some(DeadLetterPlan::Topic(topic))) = (&plan.source, &plan.dead_letter) else {
        return Err(super::usage("replay needs a pipeline with `source.kafka` and `dead_letter.topic`"));
    };
    if let Some(stage) = args.stage.as_deref().filter(|stage| !STAGES.contains(stage)) {
        bail!(super::Usage(format!("--stage {stage}: expected one of {}", STAGES.join(", "))));
    }
    let wanted = ReplayOptions { stage: args.stage, dry_run: args.dry_run };
    let done = replay(source, topic, &wanted)?;
    let would = if args.dry_run { " would be" } else { "" };
    eprintln!("{} dead letters of {topic}{would} put back", HumanCount(done.put_back));
    for (count, why) in [
        (done.incomplete, "were too large for their topic and came without their values"),
        (done.others, "are not of this pipeline's topics"),
        (done.other_stages, "are of other stages"),
    ] {
        if count > 0 {
            eprintln!("{} {why}; they stay where they are", HumanCount(count));
        }
    }
    Ok(())
}

const STAGES: [&str; 5] = ["read", "extract", "tokenize", "encode", "publish"];

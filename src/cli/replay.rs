//! `replay`: publishes dead letters to their original topics again.

use crate::kafka::{ReplayOptions, replay};
use crate::plan::{DeadLetterPlan, SourcePlan};
use crate::record::Stage;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::HumanCount;

use super::pipeline_file::PipelineArgs;
use super::terminal::usage;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill replay pipelines/kafka-enrich.yaml --dry-run
  embedmill replay pipelines/kafka-enrich.yaml --stage extract

Reads `dead_letter.topic` from where the last replay stopped until its end, and publishes each dead letter unchanged (value, \
key and headers) to its original topic and partition, where the running pipeline reads it again. Dead letters and offsets \
are committed in one transaction, so none is replayed twice.")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Replay only dead letters that this stage rejected
    #[arg(long, value_parser = PossibleValuesParser::new(Stage::ALL.map(Stage::as_str)))]
    stage: Option<String>,
    /// Count the dead letters without replaying them
    #[arg(long)]
    dry_run: bool,
}

/// Replays the dead letters of a pipeline, and reports what was skipped.
pub(crate) fn replay_dead_letters(args: ReplayArgs) -> anyhow::Result<()> {
    let (_, plan) = args.pipeline.plan()?;
    let (SourcePlan::Kafka(source), Some(DeadLetterPlan::Topic(topic))) = (&plan.source, &plan.dead_letter) else {
        return Err(usage(
            "dead_letter.topic: nothing to replay; expected a pipeline with `source.kafka` and `dead_letter.topic`",
        ));
    };
    let options = ReplayOptions { stage: args.stage, dry_run: args.dry_run };
    let done = replay(source, topic, &options)?;
    let would = if args.dry_run { " would be" } else { "" };
    eprintln!("{} dead letters of {topic}{would} replayed", HumanCount(done.put_back));
    for (count, reason) in [
        (done.incomplete, "were too large for the dead letter topic and lack their values"),
        (done.others, "belong to topics that this pipeline does not read"),
        (done.other_stages, "were rejected by other stages"),
    ] {
        if count > 0 {
            eprintln!("skipped {}: they {reason}", HumanCount(count));
        }
    }
    Ok(())
}

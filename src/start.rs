//! From a plan to a pipeline that can run: the source opened, the model found and loaded, the sink begun.
//!
//! Everything that can be refused is refused here, cheapest first, before any record is read beyond a first look.

use std::sync::Arc;

use crate::columnar::kept::KeptSchema;
use crate::columnar::output::OutputSchema;
use crate::dead_letter::DeadLetters;
use crate::delivery::{Delivery, DeliveryError};
use crate::encode::hub::{HubSettings, Progress};
use crate::encode::modules::ModelSpec;
use crate::encode::worker::WorkerPool;
use crate::encode::{LoadError, builder, spec};
use crate::pipeline::Pipeline;
use crate::plan::{Plan, PlanError, SinkPlan};
use crate::sink::file::FileSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, SinkError};
use crate::source::SourceError;
use crate::source::file::FileSource;
use crate::text::extract::{Extractor, fix_kept};
use crate::tokenize::Tokenizer;

/// A pipeline that is ready, and what there is to tell of it.
pub struct Started {
    pub pipeline: Pipeline,
    pub spec: Arc<ModelSpec>,
    /// Bytes of the whole input; `None` with standard input.
    pub input_bytes: Option<u64>,
    /// One line about the inputs.
    pub inputs: String,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    DeadLetter(#[from] DeliveryError),
    #[error("record.keep: {0}")]
    Keep(String),
}

/// The kept columns' types. The first records are awaited only where a type has to be read from them: standard input may
/// be slow to give any.
fn kept(plan: &Plan, source: &mut FileSource) -> Result<KeptSchema, StartError> {
    let all_given = plan.record.keep.iter().all(|field| field.data_type.is_some());
    let first = if all_given { None } else { source.first()? };
    fix_kept(&plan.record, first).map_err(StartError::Keep)
}

/// Starts what `plan` says. It reads files, may download, and loads weights: it blocks.
pub fn start(plan: Plan, hub: &HubSettings, progress: &dyn Progress) -> Result<Started, StartError> {
    let mut source = FileSource::open(&plan.source, &plan.record.top_fields())?;
    let spec = Arc::new(spec(&plan.model, hub, progress)?);
    plan.check_model(&spec)?;
    let devices = plan.devices.resolve().map_err(LoadError::from)?;
    let tokenizer = Arc::new(Tokenizer::load(&spec)?);
    let kept = kept(&plan, &mut source)?;
    let provenance: Vec<(String, String)> =
        spec.provenance().into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    let output = OutputSchema::new(spec.dim, plan.text_column, &kept, &provenance);
    let sink: Box<dyn Sink> = match &plan.sink {
        SinkPlan::Files { format, target } => Box::new(FileSink::create(*format, target.clone(), output.clone())?),
        SinkPlan::Stdout(config) => Box::new(StdoutSink::new(config, &output)?),
    };
    let dead_letters = plan.dead_letter.as_deref().map(DeadLetters::create).transpose();
    let dead_letters = dead_letters.map_err(DeliveryError::DeadLetter)?;
    let workers = WorkerPool::start(&devices, builder(&spec, &devices))?;
    let (input_bytes, inputs) = (source.input_bytes_total(), source.describe());
    let pipeline = Pipeline {
        source: Box::new(source),
        extractor: Arc::new(Extractor::new(plan.record, kept, tokenizer, plan.text_column)),
        window: plan.window,
        live: plan.live,
        batch: plan.batch,
        workers,
        output: Arc::new(output),
        delivery: Delivery::new(sink, dead_letters),
    };
    Ok(Started { pipeline, spec, input_bytes, inputs })
}

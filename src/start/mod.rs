//! From a plan to a pipeline that can run: the source opened, the model found and loaded, the sink begun.
//!
//! Everything that can be refused is refused here, cheapest first, before any record is read beyond a first look.

mod ends;
mod run;

use std::sync::Arc;

pub use run::{Error, run};
use tokio::sync::watch;

use crate::batch::PaddingMode;
use crate::delivery::DeliveryError;
use crate::encode::worker::WorkerPool;
use crate::encode::{devices, factory, spec};
use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::model::hub::{HubSettings, Progress};
use crate::model::tokenizer::Tokenizer;
use crate::model::{LoadError, ModelSpec};
use crate::output::quantize::{Quantizer, Ranges, RangesError};
use crate::pipeline::Pipeline;
use crate::pipeline::Tuning;
use crate::plan::{Plan, PlanError};
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::text::extract::Extractor;
use ends::{OpenEnds, VectorOrigin};

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
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("record.keep: {0}")]
    Keep(String),
    #[error(transparent)]
    Ranges(#[from] RangesError),
}

impl StartError {
    /// Whether the same may work another time, such as when a hub or a broker is there again.
    pub fn failure(&self) -> Failure {
        match self {
            StartError::Load(error) => error.failure(),
            StartError::Kafka(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

/// Starts what `plan` says, as `tuning` has it from time to time. It reads files, may download, and loads weights: it
/// blocks.
pub fn start(
    plan: Plan,
    tuning: watch::Receiver<Tuning>,
    hub: &HubSettings,
    progress: &dyn Progress,
) -> Result<Started, StartError> {
    let mut ends = OpenEnds::open(&plan)?;
    let spec = Arc::new(spec(&plan.model, hub, progress)?);
    plan.check_model(&spec)?;
    let devices = devices::resolve(&plan.devices).map_err(LoadError::from)?;
    let tokenizer = Arc::new(Tokenizer::load(&spec)?);
    let kept = ends.kept(&plan)?;
    let origin = VectorOrigin::new(&spec);
    let ranges = plan.ranges.as_ref().map(|ranges| Ranges::read(ranges, spec.dim, &origin.provenance)).transpose()?;
    let quantizer =
        Quantizer::new(plan.precision, ranges).map_err(|message| PlanError { key: "output.ranges".into(), message })?;
    let metadata = [origin.provenance.clone(), ends.shared_inputs(&plan, &origin)].concat();
    let output = plan.output(&spec, &kept, &metadata, quantizer);
    let (window, window_tokens_max) = (plan.window(&spec), plan.window_tokens_max(&spec));
    let (input_bytes, inputs) = (ends.input_bytes(), ends.describe());
    let (source, delivery) = ends.connect(&plan, &output, &origin)?;
    let workers = WorkerPool::start(&devices, factory(&spec, &devices))?;
    let takes_deletes = plan.sink.takes_deletes();
    let extractor = Extractor::new(plan.record, kept, tokenizer, plan.text_column);
    let extractor = if takes_deletes { extractor.with_deletes() } else { extractor };
    let pipeline = Pipeline {
        source,
        extractor: Arc::new(extractor),
        window,
        window_tokens_max,
        live: plan.live,
        padding: if spec.script.is_some() { PaddingMode::Padded } else { PaddingMode::Packed },
        tuning,
        workers,
        output: Arc::new(output),
        delivery,
    };
    Ok(Started { pipeline, spec, input_bytes, inputs })
}

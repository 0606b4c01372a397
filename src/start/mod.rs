//! Turns a plan into a pipeline that is ready to run: opens the source, finds and loads the model, and begins the sink.
//!
//! Whatever can be refused before the run is refused here, the cheapest checks first. No record is read yet, except for a
//! sample that types are inferred from.

mod open_ends;
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
use crate::model::hub::{DownloadProgress, HubSettings};
use crate::model::tokenizer::Tokenizer;
use crate::model::{LoadError, ModelSpec};
use crate::output::quantize::{Quantizer, Ranges, RangesError};
use crate::pipeline::{Pipeline, Tuning};
use crate::plan::{Plan, PlanError};
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::text::extract::Extractor;
use open_ends::{OpenEnds, VectorOrigin};

/// A pipeline that is ready to run, and what to show about it.
pub(crate) struct Started {
    pub pipeline: Pipeline,
    pub spec: Arc<ModelSpec>,
    /// The size of the whole input in bytes; `None` if it cannot be known, as with standard input and topics.
    pub input_bytes: Option<u64>,
    /// One line about the input.
    pub inputs: String,
}

/// Why a pipeline could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The plan contradicts what was found on this machine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The input cannot be opened or read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model cannot be had, is not supported, or does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The output cannot be begun.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The output for dead letters cannot be begun.
    #[error(transparent)]
    DeadLetter(#[from] DeliveryError),
    /// A Kafka client cannot be opened.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The type of a kept column cannot be inferred.
    #[error("record.keep: {0}")]
    Keep(String),
    /// The calibration file is not one for this model.
    #[error(transparent)]
    Ranges(#[from] RangesError),
}

impl StartError {
    /// What the error means for a supervisor: starting again may help where the hub or a broker was unreachable.
    pub fn failure(&self) -> Failure {
        match self {
            StartError::Load(error) => error.failure(),
            StartError::Kafka(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

/// Prepares the pipeline of `plan`, whose stages follow later changes of `tuning`. This blocks: it opens files and
/// connections, may download the model, and loads its weights.
pub(crate) fn start(
    plan: Plan,
    tuning: watch::Receiver<Tuning>,
    hub: &HubSettings,
    progress: &dyn DownloadProgress,
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
    let delivery = ends.connect(&plan, &output, &origin)?;
    let workers = WorkerPool::start(&devices, factory(&spec, &devices))?;
    let (input_bytes, inputs) = (ends.input_bytes(), ends.describe());
    let takes_deletes = plan.sink.takes_deletes();
    let extractor = Extractor::new(plan.record, kept, tokenizer, plan.text_column);
    let extractor = if takes_deletes { extractor.with_deletes() } else { extractor };
    let pipeline = Pipeline {
        source: ends.into_source(),
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

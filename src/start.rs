//! From a plan to a pipeline that can run: the source opened, the model found and loaded, the sink begun.
//!
//! Everything that can be refused is refused here, cheapest first, before any record is read beyond a first look.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::batch::Counted;
use crate::columnar::kept::KeptSchema;
use crate::columnar::output::OutputSchema;
use crate::dead_letter::{DeadLetterFile, DeadLetterSink};
use crate::delivery::{Delivery, DeliveryError, Guarantee, Promise};
use crate::encode::folder::hex;
use crate::encode::hub::{HubSettings, Progress};
use crate::encode::modules::ModelSpec;
use crate::encode::worker::WorkerPool;
use crate::encode::{LoadError, builder, spec};
use crate::failure::Failure;
use crate::kafka::config::KafkaSinkConfig;
use crate::kafka::{KafkaConsumer, KafkaError, KafkaProducer, Transactions};
use crate::pipeline::Pipeline;
use crate::plan::{DeadLetterPlan, Plan, PlanError, SinkPlan, SourcePlan};
use crate::quantize::{Quantizer, Ranges, RangesError};
use crate::reload::Tuning;
use crate::sink::file::{FileSink, SHARED_INPUTS, Target};
use crate::sink::partition_files::PartitionFiles;
use crate::sink::ranges::RangesSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, SinkError};
use crate::source::file::{FileSource, FilesConfig};
use crate::source::{Source, SourceError};
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

/// A source that is open, and what there is to know of it.
enum Opened {
    Files(Box<FileSource>),
    Kafka(KafkaConsumer, String),
}

impl Opened {
    fn open(plan: &Plan) -> Result<Opened, StartError> {
        Ok(match &plan.source {
            SourcePlan::Files(files) => {
                let source = FileSource::open(files, &plan.record.top_fields())?;
                refuse_to_replace_inputs(plan, &source)?;
                Opened::Files(Box::new(source))
            }
            SourcePlan::Kafka(kafka) => {
                let shown = format!("kafka topics {} in group {}", kafka.topics.join(", "), kafka.group);
                Opened::Kafka(KafkaConsumer::open(kafka)?, shown)
            }
        })
    }

    /// The kept columns' types. A file's first records are awaited only where a type has to be read from them: standard
    /// input may be slow to give any. A message's are not: without a type, a column is of strings.
    fn kept(&mut self, plan: &Plan) -> Result<KeptSchema, StartError> {
        let all_given = plan.record.keep.iter().all(|field| field.data_type.is_some());
        let first = match self {
            Opened::Files(files) if !all_given => files.first(plan.live)?,
            _ => None,
        };
        fix_kept(&plan.record, first).map_err(StartError::Keep)
    }

    fn input_bytes(&self) -> Option<u64> {
        match self {
            Opened::Files(files) => files.input_bytes_total(),
            Opened::Kafka(..) => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Opened::Files(files) => files.describe(),
            Opened::Kafka(_, shown) => shown.clone(),
        }
    }

    /// What files in a folder say of the inputs that they are a shard's of, so that no other shards' come beside them.
    /// Where rows are cut and what they are made of is part of it: a shard that is run again with other settings would write
    /// other names, beside its own rows of before.
    fn shared_inputs(&self, plan: &Plan, provenance: &[(String, String)]) -> Vec<(String, String)> {
        let (Opened::Files(files), SinkPlan::Files { target: Target::Folder { .. }, .. }) = (self, &plan.sink) else {
            return Vec::new();
        };
        let mut settings = Sha256::new();
        for (stage, what) in plan.lines(None).iter().filter(|(stage, _)| ["record", "window", "sink"].contains(stage)) {
            settings.update(format!("{stage} {what}\n"));
        }
        settings.update(format!("{provenance:?}"));
        let settings = &hex(&settings.finalize())[..16];
        files.shared().map(|mark| (SHARED_INPUTS.into(), format!("{mark}, made as {settings}"))).into_iter().collect()
    }

    fn consumer(&self) -> Option<&KafkaConsumer> {
        match self {
            Opened::Files(_) => None,
            Opened::Kafka(consumer, _) => Some(consumer),
        }
    }

    fn into_source(self) -> Box<dyn Source> {
        match self {
            Opened::Files(files) => files,
            Opened::Kafka(consumer, _) => consumer.source(),
        }
    }
}

/// An output that replaces an input would leave neither for a second try.
fn refuse_to_replace_inputs(plan: &Plan, source: &FileSource) -> Result<(), PlanError> {
    let sink = match &plan.sink {
        SinkPlan::Files { target: Target::File(path), .. } | SinkPlan::Ranges(path) => Some(("sink", path)),
        _ => None,
    };
    let letters = match &plan.dead_letter {
        Some(DeadLetterPlan::File(path)) => Some(("dead_letter.path", path)),
        _ => None,
    };
    for (key, path) in [sink, letters].into_iter().flatten() {
        let Ok(output) = std::fs::canonicalize(path) else { continue };
        if source.paths().any(|input| std::fs::canonicalize(input).is_ok_and(|input| input == output)) {
            let message =
                format!("{} is one of the inputs, which it would replace; expected another name", path.display());
            return Err(PlanError { key: key.into(), message });
        }
    }
    Ok(())
}

/// Where rows and dead letters go, and what is promised of them.
fn delivery(
    plan: &Plan,
    opened: &mut Opened,
    output: &OutputSchema,
    (dim, provenance): (usize, &[(String, String)]),
) -> Result<Delivery, StartError> {
    let exactly_once = plan.promise == Promise::ExactlyOnce;
    let transactions = match (&plan.source, exactly_once) {
        (SourcePlan::Files(FilesConfig { checkpoint: Some(name), .. }), _) => Transactions::Named(name.clone()),
        (_, true) => Transactions::Unique,
        (_, false) => Transactions::No,
    };
    let mut resumable = None;
    let topic = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
    let mut producer = None;
    let mut files = None;
    let sink: Box<dyn Sink> = match &plan.sink {
        SinkPlan::Files { format, target: Target::Folder { path, file_rows, file_age } }
            if opened.consumer().is_some() =>
        {
            let opened = PartitionFiles::create(*format, path, (*file_rows, *file_age), output.clone())?;
            Box::new(files.insert(opened).clone())
        }
        SinkPlan::Files { format, target } => Box::new(FileSink::create(*format, target.clone(), output.clone())?),
        SinkPlan::Stdout(config) => Box::new(StdoutSink::new(config, output)?),
        SinkPlan::Ranges(path) => Box::new(RangesSink::create(path, dim, provenance)?),
        SinkPlan::Kafka { config, brokers, properties } => {
            let cluster = (brokers.as_str(), properties);
            let to_topic = KafkaProducer::open(config, cluster, topic, transactions, output.fingerprint())?;
            if let (SourcePlan::Files(FilesConfig { checkpoint: Some(name), .. }), Opened::Files(files)) =
                (&plan.source, &mut *opened)
            {
                let marks = files.marks().ok_or_else(|| PlanError {
                    key: "source.files.checkpoint".into(),
                    message: "a pipe is among the inputs, which cannot be read again; expected files".into(),
                })?;
                let checkpoint = to_topic.checkpoint(name, &config.topic, cluster, marks)?;
                if let Some(resume) = checkpoint.resume()? {
                    tracing::info!(checkpoint = name, ordinal = resume.ordinal, next = resume.next, "goes on");
                    files.resume(resume);
                }
                resumable = Some(checkpoint);
            }
            producer.insert(to_topic).sink()
        }
    };
    if let (SourcePlan::Kafka(kafka), Some(topic), None) = (&plan.source, topic, &producer) {
        let properties = kafka.connection();
        let to_letters = KafkaSinkConfig { topic: topic.into(), ..KafkaSinkConfig::default() };
        let cluster = (kafka.brokers.as_str(), &properties);
        producer =
            Some(KafkaProducer::open(&to_letters, cluster, Some(topic), Transactions::No, output.fingerprint())?);
    }
    let dead_letters: Option<Box<dyn DeadLetterSink>> = match (&plan.dead_letter, &producer) {
        (Some(DeadLetterPlan::File(path)), _) => {
            Some(Box::new(DeadLetterFile::create(path).map_err(DeliveryError::DeadLetter)?))
        }
        (Some(DeadLetterPlan::Topic(_)), Some(producer)) => Some(producer.dead_letters()),
        _ => None,
    };
    let guarantee = match (opened.consumer(), files, &producer) {
        (None, ..) => resumable.map_or(Guarantee::Whole, |checkpoint| Guarantee::Resumable(Box::new(checkpoint))),
        (Some(consumer), Some(files), _) => Guarantee::InFiles(consumer.commits(), files),
        (Some(consumer), None, Some(producer)) if exactly_once => {
            Guarantee::ExactlyOnce(consumer.commits(), producer.transaction(consumer))
        }
        (Some(consumer), None, _) => Guarantee::AtLeastOnce(consumer.commits()),
    };
    Ok(Delivery::new(sink, dead_letters, guarantee))
}

/// Starts what `plan` says, as `tuning` has it from time to time. It reads files, may download, and loads weights: it
/// blocks.
pub fn start(
    plan: Plan,
    tuning: watch::Receiver<Tuning>,
    hub: &HubSettings,
    progress: &dyn Progress,
) -> Result<Started, StartError> {
    let mut opened = Opened::open(&plan)?;
    let spec = Arc::new(spec(&plan.model, hub, progress)?);
    plan.check_model(&spec)?;
    let devices = plan.devices.resolve().map_err(LoadError::from)?;
    let tokenizer = Arc::new(Tokenizer::load(&spec)?);
    let kept = opened.kept(&plan)?;
    let provenance: Vec<(String, String)> =
        spec.provenance().into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    let ranges = plan.ranges.as_ref().map(|ranges| Ranges::read(ranges, spec.dim, &provenance)).transpose()?;
    let quantizer =
        Quantizer::new(plan.precision, ranges).map_err(|message| PlanError { key: "output.ranges".into(), message })?;
    let said = [provenance.clone(), opened.shared_inputs(&plan, &provenance)].concat();
    let output = plan.output(&spec, &kept, &said, quantizer);
    let (window, window_tokens_max) = (plan.window(&spec), plan.window_tokens_max(&spec));
    let delivery = delivery(&plan, &mut opened, &output, (spec.dim, &provenance))?;
    let workers = WorkerPool::start(&devices, builder(&spec, &devices))?;
    let (input_bytes, inputs) = (opened.input_bytes(), opened.describe());
    let extractor = Extractor::new(plan.record, kept, tokenizer, plan.text_column);
    let extractor = if plan.sink.takes_deletes() { extractor.with_deletes() } else { extractor };
    let pipeline = Pipeline {
        source: opened.into_source(),
        extractor: Arc::new(extractor),
        window,
        window_tokens_max,
        live: plan.live,
        counted: if spec.script.is_some() { Counted::Padded } else { Counted::Tokens },
        tuning,
        workers,
        output: Arc::new(output),
        delivery,
    };
    Ok(Started { pipeline, spec, input_bytes, inputs })
}

//! The two ends of a route, opened: first the source, cheaply, then with the output's schema the sink, the dead letters and
//! what binds them.

use sha2::{Digest, Sha256};

use super::StartError;
use crate::columnar::kept::KeptSchema;
use crate::delivery::{
    AtLeastOnce, Checkpointed, CommitStrategy, CommittedFiles, Delivery, DeliveryError, DeliveryGuarantee, ExactlyOnce,
    NoCommit,
};
use crate::digest::hex;
use crate::kafka::config::KafkaSourceConfig;
use crate::kafka::{KafkaConsumer, KafkaProducer};
use crate::model::ModelSpec;
use crate::output::OutputSchema;
use crate::plan::{DeadLetterPlan, LocalSink, Plan, PlanError, Route, SinkPlan, TopicSink};
use crate::sink::dead_letters::DeadLetterFile;
use crate::sink::file::{FileSink, SHARED_INPUTS, Target};
use crate::sink::partition_files::{FileLimits, PartitionFiles};
use crate::sink::ranges::RangesSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{DeadLetterSink, Sink};
use crate::source::Source;
use crate::source::file::{FileSource, FilesConfig};
use crate::text::extract::infer_kept;

/// Where vectors come from: what output files and calibration files say of them.
pub(super) struct VectorOrigin {
    dim: usize,
    pub provenance: Vec<(String, String)>,
}

impl VectorOrigin {
    pub fn new(spec: &ModelSpec) -> VectorOrigin {
        let provenance = spec.provenance().into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        VectorOrigin { dim: spec.dim, provenance }
    }
}

/// A [`Route`] whose source is open.
pub(super) enum OpenEnds {
    FileToFile { source: Box<FileSource>, sink: LocalSink },
    FileToKafka { source: Box<FileSource>, checkpoint: Option<String>, sink: TopicSink },
    KafkaToFile { consumer: KafkaConsumer, kafka: KafkaSourceConfig, sink: LocalSink },
    KafkaToKafka { consumer: KafkaConsumer, kafka: KafkaSourceConfig, sink: TopicSink },
}

impl OpenEnds {
    /// Opens the source.
    pub fn open(plan: &Plan) -> Result<OpenEnds, StartError> {
        let open_files = |files: &FilesConfig| -> Result<Box<FileSource>, StartError> {
            let source = FileSource::open(files, &plan.record.top_fields())?;
            refuse_to_replace_inputs(plan, &source)?;
            Ok(Box::new(source))
        };
        Ok(match plan.route() {
            Route::FileToFile { files, sink } => {
                OpenEnds::FileToFile { source: open_files(files)?, sink: sink.clone() }
            }
            Route::FileToKafka { files, sink } => OpenEnds::FileToKafka {
                source: open_files(files)?,
                checkpoint: files.checkpoint.clone(),
                sink: sink.clone(),
            },
            Route::KafkaToFile { kafka, sink } => {
                let consumer = KafkaConsumer::open(kafka)?;
                OpenEnds::KafkaToFile { consumer, kafka: kafka.clone(), sink: sink.clone() }
            }
            Route::KafkaToKafka { kafka, sink } => {
                let consumer = KafkaConsumer::open(kafka)?;
                OpenEnds::KafkaToKafka { consumer, kafka: kafka.clone(), sink: sink.clone() }
            }
        })
    }

    fn files(&self) -> Option<&FileSource> {
        match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } => Some(source),
            OpenEnds::KafkaToFile { .. } | OpenEnds::KafkaToKafka { .. } => None,
        }
    }

    /// The kept columns' types. A file's first records are awaited only where a type has to be inferred from them: standard
    /// input may be slow to give any. A message's are not: without a type, a column is of strings.
    pub fn kept(&mut self, plan: &Plan) -> Result<KeptSchema, StartError> {
        let all_given = plan.record.keep.iter().all(|field| field.data_type.is_some());
        let first = match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } if !all_given => {
                source.sample(plan.live)?
            }
            _ => None,
        };
        infer_kept(&plan.record, first).map_err(StartError::Keep)
    }

    /// Bytes of the whole input; `None` where they cannot be known.
    pub fn input_bytes(&self) -> Option<u64> {
        self.files()?.input_bytes_total()
    }

    /// One line about the inputs.
    pub fn describe(&self) -> String {
        match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } => source.describe(),
            OpenEnds::KafkaToFile { kafka, .. } | OpenEnds::KafkaToKafka { kafka, .. } => {
                format!("kafka topics {} in group {}", kafka.topics.join(", "), kafka.group)
            }
        }
    }

    /// What files in a folder say of the inputs that they are a shard's of, so that no other shards' come beside them.
    /// Where rows are cut and what they are made of is part of it: a shard that is run again with other settings would write
    /// other names, beside its own rows of before.
    pub fn shared_inputs(&self, plan: &Plan, origin: &VectorOrigin) -> Vec<(String, String)> {
        let OpenEnds::FileToFile { source, sink: LocalSink::Files { target: Target::Folder { .. }, .. } } = self else {
            return Vec::new();
        };
        let mut settings = Sha256::new();
        for (stage, what) in plan.lines(None).iter().filter(|(stage, _)| ["record", "window", "sink"].contains(stage)) {
            settings.update(format!("{stage} {what}\n"));
        }
        settings.update(format!("{:?}", origin.provenance));
        let settings = &hex(&settings.finalize())[..16];
        source
            .shared_inputs()
            .map(|mark| (SHARED_INPUTS.into(), format!("{mark}, made as {settings}")))
            .into_iter()
            .collect()
    }

    /// Opens the sink and the dead letters, and binds them to the source.
    pub fn connect(
        self,
        plan: &Plan,
        output: &OutputSchema,
        origin: &VectorOrigin,
    ) -> Result<(Box<dyn Source>, Delivery), StartError> {
        let transactions = plan.route().transactions(plan.guarantee);
        let topic = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
        let open_producer = |sink: &TopicSink| {
            KafkaProducer::open(&sink.config, &sink.cluster, topic, transactions.clone(), output.fingerprint())
        };
        let letters = |producer: Option<&KafkaProducer>| dead_letters(plan, producer);
        Ok(match self {
            OpenEnds::FileToFile { source, sink } => {
                let sink = local_sink(&sink, output, origin)?;
                (source, Delivery::new(sink, letters(None)?, Box::new(NoCommit)))
            }
            OpenEnds::FileToKafka { mut source, checkpoint, sink } => {
                let producer = open_producer(&sink)?;
                let strategy: Box<dyn CommitStrategy> = match checkpoint {
                    Some(name) => Box::new(resume(&name, &mut source, &producer, &sink)?),
                    None => Box::new(NoCommit),
                };
                (source, Delivery::new(producer.sink(), letters(Some(&producer))?, strategy))
            }
            OpenEnds::KafkaToFile { consumer, kafka, sink } => {
                let for_letters =
                    |topic: &str| KafkaProducer::open_for_dead_letters(topic, &kafka.cluster(), output.fingerprint());
                let producer = topic.map(for_letters).transpose()?;
                let committer = consumer.committer();
                let (sink, strategy): (Box<dyn Sink>, Box<dyn CommitStrategy>) = match &sink {
                    LocalSink::Files { format, target: Target::Folder { path, file_rows, file_age } } => {
                        let limits = FileLimits { rows: *file_rows, age: *file_age };
                        let files = PartitionFiles::create(*format, path, limits, output.clone())?;
                        (Box::new(files.clone()), Box::new(CommittedFiles { committer, files }))
                    }
                    sink => (local_sink(sink, output, origin)?, Box::new(AtLeastOnce { committer })),
                };
                (consumer.source(), Delivery::new(sink, letters(producer.as_ref())?, strategy))
            }
            OpenEnds::KafkaToKafka { consumer, sink, .. } => {
                let producer = open_producer(&sink)?;
                let committer = consumer.committer();
                let strategy: Box<dyn CommitStrategy> = match plan.guarantee {
                    DeliveryGuarantee::AtLeastOnce => Box::new(AtLeastOnce { committer }),
                    DeliveryGuarantee::ExactlyOnce => {
                        Box::new(ExactlyOnce { committer, transaction: producer.transaction(&consumer) })
                    }
                };
                (consumer.source(), Delivery::new(producer.sink(), letters(Some(&producer))?, strategy))
            }
        })
    }
}

/// Reads the checkpoint, and lets the source begin after it.
fn resume(
    name: &str,
    source: &mut FileSource,
    producer: &KafkaProducer,
    sink: &TopicSink,
) -> Result<Checkpointed, StartError> {
    let marks = source.fingerprints().ok_or_else(|| PlanError {
        key: "source.files.checkpoint".into(),
        message: "a pipe is among the inputs, which cannot be read again; expected files".into(),
    })?;
    let checkpoint = producer.checkpoint(name, &sink.config.topic, &sink.cluster, marks)?;
    if let Some(resume) = checkpoint.resume()? {
        tracing::info!(checkpoint = name, ordinal = resume.ordinal, next = resume.next, "resuming from checkpoint");
        source.resume(resume);
    }
    Ok(Checkpointed { checkpoint: Box::new(checkpoint) })
}

fn local_sink(sink: &LocalSink, output: &OutputSchema, origin: &VectorOrigin) -> Result<Box<dyn Sink>, StartError> {
    Ok(match sink {
        LocalSink::Files { format, target } => Box::new(FileSink::create(*format, target.clone(), output.clone())?),
        LocalSink::Stdout(config) => Box::new(StdoutSink::new(config, output)?),
        LocalSink::Ranges(path) => Box::new(RangesSink::create(path, origin.dim, &origin.provenance)?),
    })
}

fn dead_letters(plan: &Plan, producer: Option<&KafkaProducer>) -> Result<Option<Box<dyn DeadLetterSink>>, StartError> {
    Ok(match (&plan.dead_letter, producer) {
        (Some(DeadLetterPlan::File(path)), _) => {
            Some(Box::new(DeadLetterFile::create(path).map_err(DeliveryError::DeadLetter)?))
        }
        (Some(DeadLetterPlan::Topic(_)), Some(producer)) => Some(producer.dead_letters()),
        // The plan has no topic of dead letters without a cluster, and so without a producer.
        (Some(DeadLetterPlan::Topic(_)), None) | (None, _) => None,
    })
}

/// An output that replaces an input would leave neither for a second try.
fn refuse_to_replace_inputs(plan: &Plan, source: &FileSource) -> Result<(), PlanError> {
    let sink = match &plan.sink {
        SinkPlan::Local(LocalSink::Files { target: Target::File(path), .. } | LocalSink::Ranges(path)) => {
            Some(("sink", path))
        }
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

//! Opens the two ends of a route: the source first, which is cheap, and then, once the output's schema is known, the sink,
//! the dead letters, and the strategy that binds them to the source.

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

/// The model that vectors come from, as output files and calibration files describe it.
pub(super) struct VectorOrigin {
    dim: usize,
    pub provenance: Vec<(String, String)>,
}

impl VectorOrigin {
    pub(super) fn new(spec: &ModelSpec) -> VectorOrigin {
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
    pub(super) fn open(plan: &Plan) -> Result<OpenEnds, StartError> {
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

    /// The types of the kept columns. With files, the first records are read only if a type has to be inferred from them,
    /// because standard input may be slow to deliver any. With topics nothing is read: a column without a type holds strings.
    pub(super) fn kept(&mut self, plan: &Plan) -> Result<KeptSchema, StartError> {
        let all_given = plan.record.keep.iter().all(|field| field.data_type.is_some());
        let first = match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } if !all_given => {
                source.sample(plan.live)?
            }
            _ => None,
        };
        infer_kept(&plan.record, first).map_err(StartError::Keep)
    }

    /// The size of the whole input in bytes; `None` if it cannot be known.
    pub(super) fn input_bytes(&self) -> Option<u64> {
        self.files()?.input_bytes_total()
    }

    /// One line about the input.
    pub(super) fn describe(&self) -> String {
        match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } => source.describe(),
            OpenEnds::KafkaToFile { kafka, .. } | OpenEnds::KafkaToKafka { kafka, .. } => {
                format!("kafka topics {} in group {}", kafka.topics.join(", "), kafka.group)
            }
        }
    }

    /// Metadata for the files of a shard, by which a later run notices files of other shards, or of other inputs, in the
    /// same folder. It covers the settings that decide which rows a file holds, too: a shard that is run again with others
    /// would write files with other names beside its earlier ones.
    pub(super) fn shared_inputs(&self, plan: &Plan, origin: &VectorOrigin) -> Vec<(String, String)> {
        let OpenEnds::FileToFile { source, sink: LocalSink::Files { target: Target::Folder { .. }, .. } } = self else {
            return Vec::new();
        };
        let mut settings = Sha256::new();
        settings.update(plan.rows_sha256);
        settings.update(format!("{:?}", origin.provenance));
        let settings = &hex(&settings.finalize())[..16];
        source
            .shared_inputs()
            .map(|mark| (SHARED_INPUTS.into(), format!("{mark}, made as {settings}")))
            .into_iter()
            .collect()
    }

    /// Opens the sink and then the dead letters, and binds them to the source. If there is a checkpoint, the source resumes
    /// from it.
    pub(super) fn connect(
        &mut self,
        plan: &Plan,
        output: &OutputSchema,
        origin: &VectorOrigin,
    ) -> Result<Delivery, StartError> {
        let dead_letter_topic = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
        let open_producer = |sink: &TopicSink| {
            let transactions = plan.route().transactions(plan.guarantee);
            KafkaProducer::open(&sink.config, &sink.cluster, dead_letter_topic, transactions, output.fingerprint())
        };
        Ok(match self {
            OpenEnds::FileToFile { sink, .. } => {
                let sink = local_sink(sink, output, origin)?;
                Delivery::new(sink, dead_letters(plan, None)?, Box::new(NoCommit))
            }
            OpenEnds::FileToKafka { source, checkpoint, sink } => {
                let producer = open_producer(sink)?;
                let strategy: Box<dyn CommitStrategy> = match checkpoint {
                    Some(name) => Box::new(resume(name, source, &producer, sink)?),
                    None => Box::new(NoCommit),
                };
                Delivery::new(producer.sink(), dead_letters(plan, Some(&producer))?, strategy)
            }
            OpenEnds::KafkaToFile { consumer, kafka, sink } => {
                let (sink, strategy) = committing_sink(sink, consumer, output, origin)?;
                let open_for_dead_letters =
                    |topic| KafkaProducer::open_for_dead_letters(topic, &kafka.cluster(), output.fingerprint());
                let producer = dead_letter_topic.map(open_for_dead_letters).transpose()?;
                Delivery::new(sink, dead_letters(plan, producer.as_ref())?, strategy)
            }
            OpenEnds::KafkaToKafka { consumer, sink, .. } => {
                let producer = open_producer(sink)?;
                let committer = consumer.committer();
                let strategy: Box<dyn CommitStrategy> = match plan.guarantee {
                    DeliveryGuarantee::AtLeastOnce => Box::new(AtLeastOnce { committer }),
                    DeliveryGuarantee::ExactlyOnce => {
                        Box::new(ExactlyOnce { committer, transaction: producer.transaction(consumer) })
                    }
                };
                Delivery::new(producer.sink(), dead_letters(plan, Some(&producer))?, strategy)
            }
        })
    }

    /// The source, to be called last: from then on, a run that reads topics is not ready until partitions are assigned.
    pub(super) fn into_source(self) -> Box<dyn Source> {
        match self {
            OpenEnds::FileToFile { source, .. } | OpenEnds::FileToKafka { source, .. } => source,
            OpenEnds::KafkaToFile { consumer, .. } | OpenEnds::KafkaToKafka { consumer, .. } => consumer.source(),
        }
    }
}

/// Lets the source resume after the checkpoint, and returns the strategy that keeps it.
fn resume(
    name: &str,
    source: &mut FileSource,
    producer: &KafkaProducer,
    sink: &TopicSink,
) -> Result<Checkpointed, StartError> {
    let fingerprints = source.fingerprints().ok_or_else(|| PlanError {
        key: "source.files.checkpoint".into(),
        message: "the inputs include a pipe, which cannot be read again; expected files".into(),
    })?;
    let checkpoint = producer.checkpoint(name, &sink.config.topic, &sink.cluster, fingerprints)?;
    if let Some(resume) = checkpoint.resume()? {
        tracing::info!(checkpoint = name, ordinal = resume.ordinal, next = resume.next, "resuming from checkpoint");
        source.resume(resume);
    }
    Ok(Checkpointed { checkpoint: Box::new(checkpoint) })
}

/// A sink, and the strategy that commits what it has written.
type SinkAndStrategy = (Box<dyn Sink>, Box<dyn CommitStrategy>);

/// A local sink for the rows of topics. A folder's files carry the offsets; other sinks only have the group's.
fn committing_sink(
    sink: &LocalSink,
    consumer: &KafkaConsumer,
    output: &OutputSchema,
    origin: &VectorOrigin,
) -> Result<SinkAndStrategy, StartError> {
    match sink {
        LocalSink::Files { format, target: Target::Folder { path, file_rows, file_age } } => {
            let limits = FileLimits { rows: *file_rows, age: *file_age };
            let files = PartitionFiles::create(*format, path, limits, output.clone())?;
            let committer = consumer.committer();
            Ok((Box::new(files.clone()), Box::new(CommittedFiles { committer, files })))
        }
        sink => {
            let sink = local_sink(sink, output, origin)?;
            Ok((sink, Box::new(AtLeastOnce { committer: consumer.committer() })))
        }
    }
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
        // The plan refuses a topic for dead letters where neither end is Kafka, so there always is a producer for it.
        (Some(DeadLetterPlan::Topic(_)), None) | (None, _) => None,
    })
}

/// Refuses an output that would replace an input, since a failed run could then not be repeated.
fn refuse_to_replace_inputs(plan: &Plan, source: &FileSource) -> Result<(), PlanError> {
    let sink = match &plan.sink {
        SinkPlan::Local(LocalSink::Files { target: Target::File(path), .. } | LocalSink::Ranges(path)) => {
            Some(("sink", path))
        }
        _ => None,
    };
    let dead_letters = match &plan.dead_letter {
        Some(DeadLetterPlan::File(path)) => Some(("dead_letter.path", path)),
        _ => None,
    };
    for (key, path) in [sink, dead_letters].into_iter().flatten() {
        let Ok(output) = std::fs::canonicalize(path) else { continue };
        if source.paths().any(|input| std::fs::canonicalize(input).is_ok_and(|input| input == output)) {
            let message =
                format!("{} is one of the inputs, which it would replace; expected another path", path.display());
            return Err(PlanError { key: key.into(), message });
        }
    }
    Ok(())
}

//! Which kinds of ends a pipeline joins. What can be promised, how windows are committed, and what is opened and checked
//! differ by it: the plan, `check` and the start of a run all ask this one type.

use super::{LocalSink, PlanError, SinkPlan, SourcePlan, TopicSink, refuse};
use crate::delivery::DeliveryGuarantee;
use crate::kafka::TransactionMode;
use crate::kafka::config::KafkaSourceConfig;
use crate::source::file::FilesConfig;

/// The two ends of a pipeline. A local sink is files, standard output, or a calibration file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Route<'a> {
    FileToFile { files: &'a FilesConfig, sink: &'a LocalSink },
    FileToKafka { files: &'a FilesConfig, sink: &'a TopicSink },
    KafkaToFile { kafka: &'a KafkaSourceConfig, sink: &'a LocalSink },
    KafkaToKafka { kafka: &'a KafkaSourceConfig, sink: &'a TopicSink },
}

impl<'a> Route<'a> {
    pub fn new(source: &'a SourcePlan, sink: &'a SinkPlan) -> Route<'a> {
        match (source, sink) {
            (SourcePlan::Files(files), SinkPlan::Local(sink)) => Route::FileToFile { files, sink },
            (SourcePlan::Files(files), SinkPlan::Kafka(sink)) => Route::FileToKafka { files, sink },
            (SourcePlan::Kafka(kafka), SinkPlan::Local(sink)) => Route::KafkaToFile { kafka, sink },
            (SourcePlan::Kafka(kafka), SinkPlan::Kafka(sink)) => Route::KafkaToKafka { kafka, sink },
        }
    }

    /// Refuses a guarantee that these ends cannot keep together.
    pub(super) fn check(&self, guarantee: DeliveryGuarantee) -> Result<(), PlanError> {
        use DeliveryGuarantee::{AtLeastOnce, ExactlyOnce};
        match (*self, guarantee) {
            (Route::FileToFile { files, .. }, _) if files.checkpoint.is_some() => needless_checkpoint(),
            (Route::FileToFile { .. }, AtLeastOnce) => Ok(()),
            (Route::FileToFile { .. }, ExactlyOnce) => cannot_be_exactly_once(),
            (Route::FileToKafka { files, .. }, ExactlyOnce) if files.checkpoint.is_none() => refuse(
                "source.files.checkpoint",
                "is needed for exactly_once: a name under which the sink's cluster keeps how far this has come",
            ),
            (Route::FileToKafka { files, .. }, AtLeastOnce) if files.checkpoint.is_some() => needless_checkpoint(),
            (Route::FileToKafka { .. }, _) => Ok(()),
            (Route::KafkaToFile { sink: LocalSink::Files { .. }, .. }, _) => Ok(()),
            (Route::KafkaToFile { .. }, AtLeastOnce) => Ok(()),
            (Route::KafkaToFile { .. }, ExactlyOnce) => cannot_be_exactly_once(),
            (Route::KafkaToKafka { kafka, sink }, ExactlyOnce) if kafka.brokers != sink.cluster.brokers => {
                refuse("delivery", "exactly_once needs source and sink in one cluster: a transaction spans no two")
            }
            (Route::KafkaToKafka { .. }, _) => Ok(()),
        }
    }

    /// What is promised of every record, in words.
    pub fn promise(&self, guarantee: DeliveryGuarantee) -> &'static str {
        match (self, guarantee) {
            (Route::KafkaToFile { sink: LocalSink::Files { .. }, .. }, _) => {
                "exactly once: a partition's files are a chain, and offsets follow it; dead letters at least once"
            }
            (Route::FileToFile { .. } | Route::FileToKafka { .. }, DeliveryGuarantee::ExactlyOnce) => {
                "exactly once: rows, dead letters and the checkpoint are one transaction a window"
            }
            (Route::FileToFile { .. } | Route::FileToKafka { .. }, DeliveryGuarantee::AtLeastOnce) => {
                "each run reads the whole input"
            }
            (Route::KafkaToFile { .. } | Route::KafkaToKafka { .. }, DeliveryGuarantee::ExactlyOnce) => {
                "exactly once: rows, dead letters and offsets are one transaction a window"
            }
            (Route::KafkaToFile { .. } | Route::KafkaToKafka { .. }, DeliveryGuarantee::AtLeastOnce) => {
                "at least once: offsets are committed after their rows"
            }
        }
    }

    /// How the sink's producer uses transactions.
    pub fn transactions(&self, guarantee: DeliveryGuarantee) -> TransactionMode {
        match (self, guarantee) {
            (Route::FileToKafka { files: FilesConfig { checkpoint: Some(name), .. }, .. }, _) => {
                TransactionMode::FixedId(name.clone())
            }
            (Route::KafkaToKafka { .. }, DeliveryGuarantee::ExactlyOnce) => TransactionMode::RandomId,
            _ => TransactionMode::None,
        }
    }
}

fn needless_checkpoint() -> Result<(), PlanError> {
    refuse("source.files.checkpoint", "needs `sink.kafka` and `delivery: exactly_once`, whose transactions keep it")
}

fn cannot_be_exactly_once() -> Result<(), PlanError> {
    refuse(
        "delivery",
        "exactly_once is promised from a Kafka topic to a Kafka topic, where rows and offsets are one transaction, and \
         to a folder, where files tell what they hold; expected at_least_once with this source and sink",
    )
}

//! The combination of source and sink. It decides which delivery guarantees are possible, how windows are committed, and
//! what is opened and checked; the plan, `check` and the start of a run all match on this one type.

use super::error::{PlanError, refuse};
use super::source_and_sink::{LocalSink, SinkPlan, SourcePlan, TopicSink};
use crate::delivery::DeliveryGuarantee;
use crate::kafka::TransactionMode;
use crate::kafka::config::KafkaSourceConfig;
use crate::source::file::FilesConfig;

/// The two ends of a pipeline. "File" stands for local sinks in general: files, standard output, or a calibration file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Route<'a> {
    /// From files to a local sink.
    FileToFile {
        /// The source.
        files: &'a FilesConfig,
        /// The sink.
        sink: &'a LocalSink,
    },
    /// From files to a topic.
    FileToKafka {
        /// The source.
        files: &'a FilesConfig,
        /// The sink.
        sink: &'a TopicSink,
    },
    /// From topics to a local sink.
    KafkaToFile {
        /// The source.
        kafka: &'a KafkaSourceConfig,
        /// The sink.
        sink: &'a LocalSink,
    },
    /// From topics to a topic.
    KafkaToKafka {
        /// The source.
        kafka: &'a KafkaSourceConfig,
        /// The sink.
        sink: &'a TopicSink,
    },
}

impl<'a> Route<'a> {
    /// The combination of these two ends.
    pub fn new(source: &'a SourcePlan, sink: &'a SinkPlan) -> Route<'a> {
        match (source, sink) {
            (SourcePlan::Files(files), SinkPlan::Local(sink)) => Route::FileToFile { files, sink },
            (SourcePlan::Files(files), SinkPlan::Kafka(sink)) => Route::FileToKafka { files, sink },
            (SourcePlan::Kafka(kafka), SinkPlan::Local(sink)) => Route::KafkaToFile { kafka, sink },
            (SourcePlan::Kafka(kafka), SinkPlan::Kafka(sink)) => Route::KafkaToKafka { kafka, sink },
        }
    }

    /// Refuses a guarantee that these two ends cannot keep.
    pub(super) fn check(&self, guarantee: DeliveryGuarantee) -> Result<(), PlanError> {
        use DeliveryGuarantee::{AtLeastOnce, ExactlyOnce};
        match (*self, guarantee) {
            (Route::FileToFile { files, .. }, _) if files.checkpoint.is_some() => checkpoint_without_transactions(),
            (Route::FileToFile { .. }, AtLeastOnce) => Ok(()),
            (Route::FileToFile { .. }, ExactlyOnce) => exactly_once_not_possible(),
            (Route::FileToKafka { files, .. }, ExactlyOnce) if files.checkpoint.is_none() => refuse(
                "source.files.checkpoint",
                "missing; expected a name with delivery: exactly_once (the sink's cluster stores the progress under it)",
            ),
            (Route::FileToKafka { files, .. }, AtLeastOnce) if files.checkpoint.is_some() => {
                checkpoint_without_transactions()
            }
            (Route::FileToKafka { .. }, _) => Ok(()),
            (Route::KafkaToFile { sink: LocalSink::Files { .. }, .. }, _) => Ok(()),
            (Route::KafkaToFile { .. }, AtLeastOnce) => Ok(()),
            (Route::KafkaToFile { .. }, ExactlyOnce) => exactly_once_not_possible(),
            (Route::KafkaToKafka { kafka, sink }, ExactlyOnce) if kafka.brokers != sink.cluster.brokers => refuse(
                "delivery",
                "found exactly_once with source and sink in different clusters; expected at_least_once, or the same \
                 brokers (a transaction cannot span two clusters)",
            ),
            (Route::KafkaToKafka { .. }, _) => Ok(()),
        }
    }

    /// The delivery guarantee in one line, with how it is kept.
    pub fn describe_guarantee(&self, guarantee: DeliveryGuarantee) -> &'static str {
        match (self, guarantee) {
            (Route::KafkaToFile { sink: LocalSink::Files { .. }, .. }, _) => {
                "exactly once: offsets are committed as far as a partition's finished files reach; dead letters at least once"
            }
            (Route::FileToFile { .. } | Route::FileToKafka { .. }, DeliveryGuarantee::ExactlyOnce) => {
                "exactly once: one transaction per window with its rows, dead letters and checkpoint"
            }
            (Route::FileToFile { .. } | Route::FileToKafka { .. }, DeliveryGuarantee::AtLeastOnce) => {
                "each run reads the whole input"
            }
            (Route::KafkaToFile { .. } | Route::KafkaToKafka { .. }, DeliveryGuarantee::ExactlyOnce) => {
                "exactly once: one transaction per window with its rows, dead letters and offsets"
            }
            (Route::KafkaToFile { .. } | Route::KafkaToKafka { .. }, DeliveryGuarantee::AtLeastOnce) => {
                "at least once: offsets are committed after the rows are published"
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

fn checkpoint_without_transactions() -> Result<(), PlanError> {
    refuse(
        "source.files.checkpoint",
        "no transaction would store it; expected no checkpoint, or `sink.kafka` with `delivery: exactly_once`",
    )
}

fn exactly_once_not_possible() -> Result<(), PlanError> {
    refuse(
        "delivery",
        "found exactly_once; expected at_least_once with this source and sink (exactly once is possible to a Kafka topic, \
         where rows and progress are one transaction, and from a Kafka topic to a folder, whose files record their offsets)",
    )
}

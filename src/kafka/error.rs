//! The error of every Kafka operation: where it happened, what is wrong, and whether trying again may help.

use crate::delivery::DeliveryError;
use crate::failure::{ClientError, Failure};
use crate::sink::SinkError;
use crate::source::SourceError;

/// An error of a Kafka client.
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka rejected a property. The message leaves the value out, since it may be a secret.
    #[error("kafka property `{key}`: {message}")]
    Property { key: String, message: String },
    /// An operation failed.
    #[error("{subject}: {message}")]
    Failed {
        /// A pipeline key, a topic, a group or an operation.
        subject: String,
        message: String,
        failure: Failure,
    },
    /// This build has no Kafka clients.
    #[error("this embedmill was built without Kafka (build it with `--features kafka`)")]
    NotBuilt,
}

impl KafkaError {
    /// What the error means for the stream.
    pub fn failure(&self) -> Failure {
        match self {
            KafkaError::Failed { failure, .. } => *failure,
            KafkaError::Property { .. } | KafkaError::NotBuilt => Failure::Fatal,
        }
    }
}

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        ClientError::new(error.failure(), error)
    }
}

impl From<KafkaError> for SourceError {
    fn from(error: KafkaError) -> Self {
        SourceError::Client(error.into())
    }
}

impl From<KafkaError> for SinkError {
    fn from(error: KafkaError) -> Self {
        SinkError::Client(error.into())
    }
}

impl From<KafkaError> for DeliveryError {
    fn from(error: KafkaError) -> Self {
        DeliveryError::Client(error.into())
    }
}

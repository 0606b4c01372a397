//! What goes wrong with Kafka, where, and what can be done.

use crate::delivery::DeliveryError;
use crate::failure::{ClientError, Failure};
use crate::sink::SinkError;
use crate::source::SourceError;

#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property that librdkafka refuses. Its value is not shown: it may be a secret.
    #[error("kafka property `{key}`: {message}")]
    Property { key: String, message: String },
    #[error("{what}: {message}")]
    Failed { what: String, message: String, failure: Failure },
    #[error("this embedmill was built without Kafka; build it with `--features kafka`")]
    NotBuilt,
}

impl KafkaError {
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

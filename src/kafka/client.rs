//! librdkafka's configuration, and what its errors mean here.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use super::KafkaError;
use super::config::Properties;
use crate::failure::Failure;

/// How long a question to the brokers may take: long enough for a slow TLS handshake, short enough to wait for.
pub const ASK_MAX: Duration = Duration::from_secs(15);

/// A configuration with `ours` and the user's properties over it.
pub fn configuration(brokers: &str, ours: &[(&str, &str)], properties: &Properties) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "embedmill");
    for (key, value) in ours {
        config.set(*key, *value);
    }
    for (key, value) in properties {
        config.set(key, value);
    }
    config
}

/// An error of making a client. A property's value is not in it: it may be a secret.
pub fn creation(error: ClientError) -> KafkaError {
    match error {
        ClientError::ClientConfig(_, message, key, value) => {
            let message = if value.is_empty() { message } else { message.replace(&value, "…") };
            KafkaError::Property { key, message }
        }
        other => failed("kafka client", &other),
    }
}

/// An error of an operation on `what`, and whether the same again may succeed.
pub fn failed(what: impl Into<String>, error: &ClientError) -> KafkaError {
    let failure = match error.rdkafka_error_code() {
        Some(code) if passes(code) => Failure::Retry,
        _ => Failure::Fatal,
    };
    KafkaError::Failed { what: what.into(), message: explained(error), failure }
}

/// Whether the error is one of times in which brokers come and go, or a group agrees anew.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::QueueFull
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::PurgeQueue
            | Code::PurgeInflight
    )
}

/// The error and what to do about it.
pub fn explained(error: &ClientError) -> String {
    let hint = match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            "; create it, or check its name and the permission to describe it"
        }
        Some(Code::TopicAuthorizationFailed) => "; give this user READ of the source's topics and WRITE of the sink's",
        Some(Code::GroupAuthorizationFailed) => "; give this user READ of the group",
        Some(Code::TransactionalIdAuthorizationFailed) => "; give this user WRITE of the transactional id",
        Some(Code::SaslAuthenticationFailed | Code::Authentication) => {
            "; check `sasl.mechanism`, `sasl.username` and `sasl.password` under `properties`"
        }
        Some(Code::SSL) => "; check `security.protocol` and `ssl.ca.location` under `properties`",
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve) => {
            "; check `brokers`, the network, and `security.protocol` under `properties`"
        }
        Some(Code::MessageSizeTooLarge) => "; raise the topic's `max.message.bytes`",
        _ => "",
    };
    format!("{error}{hint}")
}

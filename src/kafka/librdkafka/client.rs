//! librdkafka's configuration, and what its errors mean here.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};

use crate::failure::Failure;
use crate::kafka::{Cluster, KafkaError};

/// How long a question to the brokers may take: long enough for a slow TLS handshake, short enough to wait for.
pub const QUERY_MAX: Duration = Duration::from_secs(15);
/// After so long without an answer, a look at whether there will ever be one.
const QUERY_STEP: Duration = Duration::from_secs(1);

/// A configuration with `properties`, and the user's own over them.
pub fn configuration(cluster: &Cluster, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.brokers).set("client.id", "embedmill");
    for (key, value) in properties {
        config.set(*key, *value);
    }
    for (key, value) in &cluster.properties {
        config.set(key, value);
    }
    config
}

/// What the brokers refused this client for, as far as it was told: a wrong password or certificate never gets better, and
/// a question that waits for its answer would only be told that time ran out.
#[derive(Default)]
pub struct Refusal(Mutex<Option<String>>);

impl Refusal {
    /// Notes an error that a client met on its own.
    pub fn note(&self, error: &RdKafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
        {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("{reason}{}", hint(error)));
        }
    }

    fn told(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Queries until there is an answer, a refusal, or [`QUERY_MAX`] is over. `query` gets a short time; `serve` lets the client meet
/// its errors.
pub fn query_with_timeout<T>(
    what: &str,
    refusal: &Refusal,
    mut serve: impl FnMut(),
    mut query: impl FnMut(Duration) -> Result<T, RdKafkaError>,
) -> Result<T, KafkaError> {
    let started = Instant::now();
    loop {
        let error = match query(QUERY_STEP) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        serve();
        let told = refusal.told();
        if let Some(message) = told {
            return Err(KafkaError::Failed { what: what.into(), message, failure: Failure::Fatal });
        }
        let is_transient = error.rdkafka_error_code().is_some_and(is_transient);
        if !is_transient || started.elapsed() > QUERY_MAX {
            return Err(failed(what, &error));
        }
        if error.rdkafka_error_code() != Some(Code::OperationTimedOut) {
            std::thread::sleep(QUERY_STEP / 4);
        }
    }
}

/// A line of librdkafka's own log, such as that a position was not there any more.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// A client that only asks.
#[derive(Default)]
pub struct QueryClient(pub Refusal);

impl ClientContext for QueryClient {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        self.0.note(&error, reason);
        tracing::debug!(%error, reason, "kafka client");
    }
}

/// An error of making a client. A property's value is not in it: it may be a secret.
pub fn creation(error: RdKafkaError) -> KafkaError {
    match error {
        RdKafkaError::ClientConfig(_, message, key, value) => {
            let message = if value.is_empty() { message } else { message.replace(&value, "…") };
            KafkaError::Property { key, message }
        }
        other => failed("kafka client", &other),
    }
}

/// An error of an operation on `what`, and whether the same again may succeed.
pub fn failed(what: impl Into<String>, error: &RdKafkaError) -> KafkaError {
    let failure = match error.rdkafka_error_code() {
        Some(code) if is_transient(code) => Failure::Retry,
        _ => Failure::Fatal,
    };
    KafkaError::Failed { what: what.into(), message: explained(error), failure }
}

/// Whether the error is one of times in which brokers come and go, or a group agrees anew.
fn is_transient(code: Code) -> bool {
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
pub fn explained(error: &RdKafkaError) -> String {
    format!("{error}{}", hint(error))
}

fn hint(error: &RdKafkaError) -> &'static str {
    match error.rdkafka_error_code() {
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
        Some(Code::FencedInstanceId) => "; another process has the same `group.instance.id`: give each its own",
        Some(Code::InvalidRecord) => "; does a compacted topic get messages without a key?",
        Some(Code::MessageSizeTooLarge) => "; raise the topic's `max.message.bytes`",
        _ => "",
    }
}

/// A transaction's error. Whatever it is, the window can be tried again: after an abort, or with a new producer.
pub fn transaction(what: &str, error: &RdKafkaError) -> KafkaError {
    let refused = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnsupportedVersion
                // Of a message: the same one is refused again.
                | Code::InvalidRecord
                | Code::MessageSizeTooLarge
                | Code::PolicyViolation
        )
    );
    let failure = if refused { Failure::Fatal } else { Failure::Retry };
    KafkaError::Failed { what: format!("transaction: {what}"), message: explained(error), failure }
}

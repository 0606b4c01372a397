//! The configuration of librdkafka's clients, and what librdkafka's errors mean for the stream.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};

use crate::failure::Failure;
use crate::kafka::{Cluster, KafkaError};

/// How long a query to the brokers may take: long enough for a slow TLS handshake, short enough to wait for.
pub(super) const QUERY_MAX: Duration = Duration::from_secs(15);
/// A query runs in steps of this length. After each, the client's own errors are looked at: one of them may show that no
/// answer will ever come.
const QUERY_STEP: Duration = Duration::from_secs(1);

/// A client configuration with `properties`, which the user's own properties override.
pub(super) fn configuration(cluster: &Cluster, properties: &[(&str, &str)]) -> ClientConfig {
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

/// Why the brokers refused this client, if they did. A wrong password or certificate never becomes right, but a query
/// itself only reports a timeout; the reason arrives through the client's error callback.
#[derive(Default)]
pub(super) struct Refusal(Mutex<Option<String>>);

impl Refusal {
    /// Keeps an error that the client reported through its callback, if it is the first one that is a refusal.
    pub(super) fn observe(&self, error: &RdKafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
        {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| with_hint(reason, hint(error)));
        }
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Repeats `query` until it returns an answer, the brokers refuse the client, or [`QUERY_MAX`] is over. `query` gets a
/// timeout; `serve` lets the client run its callbacks.
///
/// # Errors
/// The refusal, or the query's last error. Both name `subject`.
pub(super) fn query_with_timeout<T>(
    subject: &str,
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
        if let Some(message) = refusal.reason() {
            return Err(KafkaError::Failed { subject: subject.into(), message, failure: Failure::Fatal });
        }
        let is_transient = error.rdkafka_error_code().is_some_and(is_transient);
        if !is_transient || started.elapsed() > QUERY_MAX {
            return Err(operation_failed(subject, &error));
        }
        if error.rdkafka_error_code() != Some(Code::OperationTimedOut) {
            std::thread::sleep(QUERY_STEP / 4);
        }
    }
}

/// Writes a line of librdkafka's own log, such as that an offset no longer exists, to embedmill's log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// The context of a client that only queries the brokers.
#[derive(Default)]
pub(super) struct QueryContext(pub Refusal);

impl ClientContext for QueryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        self.0.observe(&error, reason);
        tracing::debug!(%error, reason, "kafka client error");
    }
}

/// The error of creating a client. It does not show a property's value, which may be a secret.
pub(super) fn creation_failed(error: RdKafkaError) -> KafkaError {
    match error {
        RdKafkaError::ClientConfig(_, message, key, value) => {
            let message = if value.is_empty() { message } else { message.replace(&value, "…") };
            KafkaError::Property { key, message }
        }
        other => operation_failed("kafka client", &other),
    }
}

/// The error of an operation on `subject`: it may be tried again if the error is transient.
pub(super) fn operation_failed(subject: impl Into<String>, error: &RdKafkaError) -> KafkaError {
    let failure = match error.rdkafka_error_code() {
        Some(code) if is_transient(code) => Failure::Retry,
        _ => Failure::Fatal,
    };
    KafkaError::Failed { subject: subject.into(), message: described(error), failure }
}

/// The error of a call of a transaction. Unless the brokers refused it for good, the window can be tried again: after an
/// abort, or with a new producer.
pub(super) fn transaction_failed(call: &str, error: &RdKafkaError) -> KafkaError {
    let is_refused = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnsupportedVersion
                // These concern a message, which would be refused again.
                | Code::InvalidRecord
                | Code::MessageSizeTooLarge
                | Code::PolicyViolation
        )
    );
    let failure = if is_refused { Failure::Fatal } else { Failure::Retry };
    KafkaError::Failed { subject: format!("transaction: {call}"), message: described(error), failure }
}

/// Whether the same call may succeed later: brokers come and go, and a group rebalances.
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

/// The error, and what to do about it.
pub(super) fn described(error: &RdKafkaError) -> String {
    with_hint(&error.to_string(), hint(error))
}

/// Appends what to do. Most of librdkafka's errors end with a code and its description in parentheses; the hint then goes
/// into the same parentheses.
pub(super) fn with_hint(message: &str, hint: Option<&str>) -> String {
    match (hint, message.strip_suffix(')')) {
        (None, _) => message.into(),
        (Some(hint), Some(open)) => format!("{open}; {hint})"),
        (Some(hint), None) => format!("{message} ({hint})"),
    }
}

fn hint(error: &RdKafkaError) -> Option<&'static str> {
    Some(match error.rdkafka_error_code()? {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "create it, or check its name and this user's permission to describe it"
        }
        Code::TopicAuthorizationFailed => "give this user READ on the source's topics and WRITE on the sink's",
        Code::GroupAuthorizationFailed => "give this user READ on the group",
        Code::TransactionalIdAuthorizationFailed => "give this user WRITE on the transactional id",
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "check `sasl.mechanism`, `sasl.username` and `sasl.password` under `properties`"
        }
        Code::SSL => "check `security.protocol` and `ssl.ca.location` under `properties`",
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve => {
            "check `brokers`, the network, and `security.protocol` under `properties`"
        }
        Code::FencedInstanceId => "another process has the same `group.instance.id`; give each process its own",
        Code::InvalidRecord => "check whether the topic is compacted, since it then takes no message without a key",
        Code::MessageSizeTooLarge => "raise the topic's `max.message.bytes`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_joins_the_parentheses_at_the_end() {
        let check = |message: &str, hint: Option<&str>, expected: &str| assert_eq!(with_hint(message, hint), expected);
        check("Flush error: NoSpace (Broker: full)", None, "Flush error: NoSpace (Broker: full)");
        check("Flush error: NoSpace (Broker: full)", Some("free it"), "Flush error: NoSpace (Broker: full; free it)");
        check("SSL handshake failed", Some("check it"), "SSL handshake failed (check it)");
    }
}

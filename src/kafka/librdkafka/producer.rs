//! librdkafka's producer: the settings that it is created from, and the context that its callbacks report to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::client::{configuration, creation_failed, log, operation_failed};
use super::limits::{TRANSACTION_CALL_MAX, TRANSACTION_TIMEOUT_MS};
use crate::digest::hex;
use crate::kafka::config::KafkaSinkConfig;
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::telemetry::{events, names};

/// The producer's context: keeps the first error of a message, and counts acknowledgements.
pub(super) struct Acknowledgements {
    /// The first message that failed since this was last cleared: its error and its topic.
    failed: Mutex<Option<(RdKafkaError, String)>>,
    acknowledged_count: metrics::Counter,
    failed_count: metrics::Counter,
}

impl Default for Acknowledgements {
    fn default() -> Self {
        Acknowledgements {
            failed: Mutex::new(None),
            acknowledged_count: names::MESSAGES.handle(&["acknowledged"]),
            failed_count: names::MESSAGES.handle(&["failed"]),
        }
    }
}

impl Acknowledgements {
    pub(super) fn failed(&self) -> MutexGuard<'_, Option<(RdKafkaError, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Acknowledgements {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            events::sink_unreachable(reason);
        }
        tracing::warn!(%error, reason, "kafka producer error");
    }
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.acknowledged_count.increment(1),
            Err((error, message)) => {
                self.failed_count.increment(1);
                self.failed().get_or_insert_with(|| (error.clone(), message.topic().into()));
            }
        }
    }
}

/// The settings that a producer is created from, and created again after a fatal error.
#[derive(Clone)]
pub(super) struct ProducerSettings {
    pub cluster: Cluster,
    pub sink: KafkaSinkConfig,
    pub transactions: TransactionMode,
    /// The message limit of the topic for rows.
    pub row_message_bytes_max: usize,
    /// The message limit of the topic for dead letters; 0 without one.
    pub dead_letter_bytes_max: usize,
}

impl ProducerSettings {
    pub(super) fn is_transactional(&self) -> bool {
        self.transactions != TransactionMode::None
    }

    /// Creates a producer. With transactions, this fences an earlier producer that has the same transactional id.
    pub(super) fn create(&self) -> Result<BaseProducer<Acknowledgements>, KafkaError> {
        let limit = self.row_message_bytes_max.max(self.dead_letter_bytes_max).to_string();
        let id = match &self.transactions {
            TransactionMode::None => None,
            TransactionMode::RandomId => Some(format!("embedmill-{}", random_id())),
            TransactionMode::FixedId(name) => Some(format!("embedmill-{name}")),
        };
        let mut properties = vec![
            ("enable.idempotence", "true"),
            ("compression.codec", self.sink.compression.as_str()),
            // The same partition for a key as Kafka's Java clients choose.
            ("partitioner", "murmur2_random"),
            ("message.max.bytes", limit.as_str()),
            // Every window ends with a flush, so lingering would only add latency.
            ("linger.ms", "0"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        if let Some(id) = &id {
            properties.extend([("transactional.id", id.as_str()), ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)]);
        }
        let config = configuration(&self.cluster, &properties);
        let producer: BaseProducer<Acknowledgements> =
            config.create_with_context(Acknowledgements::default()).map_err(creation_failed)?;
        if id.is_some() {
            let initialized = producer.init_transactions(TRANSACTION_CALL_MAX);
            initialized.map_err(|error| operation_failed("sink.kafka: initializing transactions", &error))?;
        }
        Ok(producer)
    }
}

/// An id that no other producer has.
fn random_id() -> String {
    let mut bytes = [0; 16];
    // The id only has to be unique, so the clock and the process id are good enough where there is no randomness.
    if getrandom::getrandom(&mut bytes).is_err() {
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        bytes = (nanos ^ (u128::from(std::process::id()) << 96)).to_le_bytes();
    }
    hex(&bytes)
}

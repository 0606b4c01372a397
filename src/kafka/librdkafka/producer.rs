//! librdkafka's producer: what it is made from, and what its callbacks tell.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::client::{configuration, creation, failed, log};
use super::limits::{TRANSACTION_CALL_MAX, TRANSACTION_TIMEOUT_MS};
use crate::digest::hex;
use crate::kafka::config::KafkaSinkConfig;
use crate::kafka::{Cluster, KafkaError, TransactionMode};
use crate::telemetry::{events, names};

/// Notes the first message that was not taken, and counts.
pub struct Acks {
    /// With the topic.
    failed: Mutex<Option<(RdKafkaError, String)>>,
    acknowledged_count: metrics::Counter,
    failed_count: metrics::Counter,
}

impl Default for Acks {
    fn default() -> Self {
        Acks {
            failed: Mutex::new(None),
            acknowledged_count: names::MESSAGES.handle(&["acknowledged"]),
            failed_count: names::MESSAGES.handle(&["failed"]),
        }
    }
}

impl Acks {
    pub fn failed(&self) -> MutexGuard<'_, Option<(RdKafkaError, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            events::sink_unreachable(reason);
        }
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Acks {
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

/// What a producer is made from, and made again after a fatal error.
#[derive(Clone)]
pub struct Settings {
    pub cluster: Cluster,
    pub sink: KafkaSinkConfig,
    pub transactions: TransactionMode,
    /// What the topics take at most.
    pub rows_bytes_max: usize,
    pub letter_bytes_max: usize,
}

impl Settings {
    pub fn is_transactional(&self) -> bool {
        self.transactions != TransactionMode::None
    }

    pub fn producer(&self) -> Result<BaseProducer<Acks>, KafkaError> {
        let limit = self.rows_bytes_max.max(self.letter_bytes_max).to_string();
        let id = match &self.transactions {
            TransactionMode::None => None,
            TransactionMode::RandomId => Some(format!("embedmill-{}", unique())),
            TransactionMode::FixedId(name) => Some(format!("embedmill-{name}")),
        };
        let mut properties = vec![
            ("enable.idempotence", "true"),
            ("compression.codec", self.sink.compression.as_str()),
            // As Kafka's own producers choose partitions by key.
            ("partitioner", "murmur2_random"),
            ("message.max.bytes", limit.as_str()),
            // A window is flushed at once; what it has sent by then travels together anyway.
            ("linger.ms", "0"),
            ("queue.buffering.max.kbytes", "65536"),
        ];
        if let Some(id) = &id {
            properties.extend([("transactional.id", id.as_str()), ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)]);
        }
        let config = configuration(&self.cluster, &properties);
        let producer: BaseProducer<Acks> = config.create_with_context(Acks::default()).map_err(creation)?;
        if id.is_some() {
            let began = producer.init_transactions(TRANSACTION_CALL_MAX);
            began.map_err(|error| failed("sink.kafka: beginning transactions", &error))?;
        }
        Ok(producer)
    }
}

/// Different for every producer there ever is.
fn unique() -> String {
    let mut bytes = [0; 16];
    // Only uniqueness is asked of it; the clock and the process are a fallback that is unique enough.
    if getrandom::getrandom(&mut bytes).is_err() {
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        bytes = (nanos ^ (u128::from(std::process::id()) << 96)).to_le_bytes();
    }
    hex(&bytes)
}

//! What is asked of the brokers about a topic before anything is sent to it.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};

use super::client::{QUERY_MAX, QueryClient, query_with_timeout};
use crate::kafka::KafkaError;

/// The client that asks.
pub type Admin = AdminClient<QueryClient>;

/// Kafka's own default of `max.message.bytes`, for brokers that do not tell.
const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// What is known of a topic before anything is sent to it.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
}

impl Topic {
    /// Finds the topic, which `key` of the pipeline file names.
    pub fn describe(admin: &Admin, name: &str, key: &str) -> Result<Topic, KafkaError> {
        // The admin client has a thread of its own that meets its errors.
        let partitions = query_with_timeout(
            &format!("{key}: topic `{name}`"),
            &admin.inner().context().0,
            || {},
            |wait| {
                let metadata = admin.inner().fetch_metadata(Some(name), wait)?;
                let topic =
                    metadata.topics().first().ok_or(RdKafkaError::MetadataFetch(Code::UnknownTopicOrPartition))?;
                match topic.error() {
                    Some(error) => Err(RdKafkaError::MetadataFetch(error.into())),
                    None => Ok(topic.partitions().len()),
                }
            },
        )?;
        Ok(Topic { name: name.into(), partitions: i32::try_from(partitions).unwrap_or(i32::MAX).max(1) })
    }
}

/// How a topic is set up, as far as it matters to who writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub message_bytes_max: usize,
    /// Whether it keeps the last message of each key, and takes none without.
    pub is_compacted: bool,
}

impl Limits {
    /// Asks; Kafka's defaults where the brokers do not say.
    pub fn of(admin: &Admin, name: &str) -> Limits {
        let options = AdminOptions::new().request_timeout(Some(QUERY_MAX));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let described = runtime.ok().and_then(|runtime| {
            let asked = runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(name)], &options)).ok()?;
            let resource = asked.into_iter().next()?.ok()?;
            let entries = resource.entry_map();
            let policy = entries.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
            Some(Limits {
                message_bytes_max: entries.get("max.message.bytes")?.value.as_ref()?.parse().ok()?,
                is_compacted: policy.split(',').any(|policy| policy.trim() == "compact"),
            })
        });
        described.unwrap_or_else(|| {
            tracing::warn!(topic = name, "the brokers do not tell max.message.bytes; taking Kafka's default");
            Limits { message_bytes_max: MESSAGE_BYTES_DEFAULT, is_compacted: false }
        })
    }
}

//! Queries about a topic before anything is written to it: how many partitions it has, and which messages it takes.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};

use super::client::{QUERY_MAX, QueryContext, query_with_timeout};
use crate::kafka::KafkaError;

/// The client that queries the brokers.
pub(super) type Admin = AdminClient<QueryContext>;

/// Kafka's own default of `max.message.bytes`, used if the brokers do not report the topic's.
const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// A topic that exists.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub name: String,
    /// How many partitions it has; at least 1.
    pub partitions: i32,
}

impl Topic {
    /// Looks up the topic that the pipeline file names under `key`.
    ///
    /// # Errors
    /// If the topic does not exist or may not be described, or the brokers cannot be reached or refuse this client.
    pub(super) fn describe(admin: &Admin, name: &str, key: &str) -> Result<Topic, KafkaError> {
        // The admin client runs its callbacks on a thread of its own, so there is nothing to serve.
        let partitions = query_with_timeout(
            &format!("{key}: topic {name:?}"),
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

/// The settings of a topic that matter to its producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicLimits {
    pub message_bytes_max: usize,
    /// Whether the topic keeps only the last message of each key, and takes none without a key.
    pub is_compacted: bool,
}

impl TopicLimits {
    /// Queries the topic's settings. Kafka's defaults are used if the brokers do not report them, since reading them needs
    /// a permission that writing does not.
    pub(super) fn query(admin: &Admin, name: &str) -> TopicLimits {
        let options = AdminOptions::new().request_timeout(Some(QUERY_MAX));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let described = runtime.ok().and_then(|runtime| {
            let answer = runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(name)], &options)).ok()?;
            let resource = answer.into_iter().next()?.ok()?;
            let entries = resource.entry_map();
            let policy = entries.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
            Some(TopicLimits {
                message_bytes_max: entries.get("max.message.bytes")?.value.as_ref()?.parse().ok()?,
                is_compacted: policy.split(',').any(|policy| policy.trim() == "compact"),
            })
        });
        described.unwrap_or_else(|| {
            tracing::warn!(topic = name, "brokers do not report max.message.bytes; using Kafka's default");
            TopicLimits { message_bytes_max: MESSAGE_BYTES_DEFAULT, is_compacted: false }
        })
    }
}

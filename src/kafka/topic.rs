//! What is asked of the brokers about a topic before anything is sent to it.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use regex::Regex;

use super::KafkaError;
use super::client::{ASK_MAX, Asking, ask};

/// Which topics a list means; a name that begins with ^ is a pattern.
pub struct TopicNames<'a> {
    names: &'a [String],
    patterns: Vec<Regex>,
}

impl TopicNames<'_> {
    pub fn new(names: &[String]) -> TopicNames<'_> {
        let patterns = names.iter().filter(|name| name.starts_with('^')).filter_map(|name| Regex::new(name).ok());
        TopicNames { names, patterns: patterns.collect() }
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic) || self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }
}

/// The client that asks.
pub type Admin = AdminClient<Asking>;

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
        let partitions = ask(
            &format!("{key}: topic `{name}`"),
            &admin.inner().context().0,
            || {},
            |wait| {
                let metadata = admin.inner().fetch_metadata(Some(name), wait)?;
                let topic =
                    metadata.topics().first().ok_or(ClientError::MetadataFetch(Code::UnknownTopicOrPartition))?;
                match topic.error() {
                    Some(error) => Err(ClientError::MetadataFetch(error.into())),
                    None => Ok(topic.partitions().len()),
                }
            },
        )?;
        Ok(Topic { name: name.into(), partitions: i32::try_from(partitions).unwrap_or(i32::MAX).max(1) })
    }
}

/// What the topic takes at most; Kafka's default where the brokers do not say.
pub fn message_bytes_max(admin: &Admin, name: &str) -> usize {
    let options = AdminOptions::new().request_timeout(Some(ASK_MAX));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let described = runtime.ok().and_then(|runtime| {
        let asked = runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(name)], &options)).ok()?;
        let resource = asked.into_iter().next()?.ok()?;
        resource.entry_map().get("max.message.bytes")?.value.as_ref()?.parse().ok()
    });
    described.unwrap_or_else(|| {
        tracing::warn!(topic = name, "the brokers do not tell max.message.bytes; taking Kafka's default");
        MESSAGE_BYTES_DEFAULT
    })
}

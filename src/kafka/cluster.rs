//! A cluster, and how to connect to it.

use std::collections::BTreeMap;

/// librdkafka's properties by their own names, such as `security.protocol` and `sasl.username`; they take precedence over
/// what embedmill sets. Keep secrets in the environment: `sasl.password: ${KAFKA_PASSWORD:?}`.
pub(crate) type Properties = BTreeMap<String, String>;

/// A cluster, and how to connect to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// librdkafka's properties as the user gave them; values may be secrets.
    pub properties: Properties,
}

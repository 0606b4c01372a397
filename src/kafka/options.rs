//! What the Kafka room is asked for, in builds with and without librdkafka alike.

use super::config::Properties;

/// A cluster, and how to connect to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// librdkafka's properties as the user gave them; values may be secrets.
    pub properties: Properties,
}

/// Whether and how windows are transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionMode {
    None,
    /// Each producer has a random transactional id: an instance never fences another. What a dead one left open, the
    /// coordinator aborts after the timeout; zombies are fenced by the group's generation, which goes with the offsets.
    RandomId,
    /// A fixed transactional id: a producer that begins fences the one before it.
    FixedId(String),
}

/// Which dead letters are replayed.
#[derive(Debug, Clone, Default)]
pub struct ReplayOptions {
    /// Only those that this stage rejected.
    pub stage: Option<String>,
    /// Nothing is replayed, only counted.
    pub dry_run: bool,
}

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    pub put_back: u64,
    /// Without their value.
    pub incomplete: u64,
    /// Of topics that the pipeline does not read.
    pub others: u64,
    /// Of stages that were not asked for.
    pub other_stages: u64,
}

//! The types that callers pass to the Kafka clients and get back, in builds with and without librdkafka.

/// Whether a producer publishes windows in transactions, and under which transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionMode {
    /// No transactions.
    None,
    /// Each producer has a random transactional id, so an instance never fences another one. The coordinator aborts what a
    /// dead instance left open once its transaction times out. Zombies are fenced by the generation of the consumer group,
    /// which is sent with the offsets.
    RandomId,
    /// A fixed transactional id: a new producer fences the previous one.
    FixedId(String),
}

/// Which dead letters [`replay`](super::replay) puts back.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplayOptions {
    /// Only those that this stage rejected.
    pub stage: Option<String>,
    /// Count them, but put none back.
    pub dry_run: bool,
}

/// How many dead letters [`replay`](super::replay) put back, and how many it did not, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReplaySummary {
    pub put_back: u64,
    /// Their values were too large for the dead-letter topic and were left out of it.
    pub incomplete: u64,
    /// They come from topics that the pipeline does not read.
    pub others: u64,
    /// They were rejected by other stages than [`ReplayOptions::stage`].
    pub other_stages: u64,
}

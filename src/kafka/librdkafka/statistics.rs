//! Consumer lag and the brokers' state, from librdkafka's own statistics: no query goes to the brokers.
//!
//! The statistics say where partitions end. How far a partition is published comes from the assignment, because under
//! exactly_once the producer commits the offsets, and the consumer never sees them.

use rdkafka::Statistics;

use crate::delivery::assignment::Assignment;
use crate::telemetry::{events, names};

/// How often librdkafka emits statistics, some 10 KB of JSON each time; "0", never, where no metrics are recorded.
pub(super) fn interval_ms() -> &'static str {
    if names::is_recording() { "2000" } else { "0" }
}

/// Reports what the statistics say about the brokers and the assigned partitions.
pub(super) fn observe(statistics: &Statistics, assignment: &Assignment) {
    // Bootstrap brokers have a negative id until their real one is known.
    let mut brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0).peekable();
    if brokers.peek().is_some() {
        events::brokers_seen(brokers.any(|broker| broker.state == "UP"));
    }
    for (topic, partition, settled) in assignment.settled() {
        let seen = statistics.topics.get(&*topic).and_then(|topic| topic.partitions.get(&partition));
        // The last stable offset, where committed data ends; negative until it is known.
        let Some(seen) = seen.filter(|seen| seen.ls_offset >= 0) else { continue };
        // Until something is settled in this assignment: the group's committed offset, or else where reading started.
        let start = [seen.committed_offset, seen.next_offset].into_iter().find(|offset| *offset >= 0);
        events::partition_seen(&topic, partition, settled.or(start), seen.ls_offset);
    }
}

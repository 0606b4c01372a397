//! Lag and brokers, from the statistics that librdkafka keeps anyway: no question goes to the brokers.
//!
//! Partition ends come from there. What of a partition is published is ours to know: under exactly_once positions are
//! committed by the producer, and the consumer never sees them.

use rdkafka::Statistics;

use crate::delivery::assignment::Assignment;
use crate::telemetry::{events, names};

/// How often they come; never where nobody watches. They are some 10 KB of JSON.
pub fn interval_ms() -> &'static str {
    if names::is_recording() { "2000" } else { "0" }
}

/// What they say of the brokers and of our partitions.
pub fn observe(statistics: &Statistics, assignment: &Assignment) {
    // Those that only were given to be asked first have no number.
    let mut brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0).peekable();
    if brokers.peek().is_some() {
        events::brokers_seen(brokers.any(|broker| broker.state == "UP"));
    }
    for (topic, partition, settled) in assignment.settled() {
        let seen = statistics.topics.get(&*topic).and_then(|topic| topic.partitions.get(&partition));
        // The end of what is committed; negative where it is not known yet.
        let Some(seen) = seen.filter(|seen| seen.ls_offset >= 0) else { continue };
        // Before anything is settled in this assignment: where the group was, else where reading began.
        let begun = [seen.committed_offset, seen.next_offset].into_iter().find(|offset| *offset >= 0);
        events::partition_seen(&topic, partition, settled.or(begun), seen.ls_offset);
    }
}

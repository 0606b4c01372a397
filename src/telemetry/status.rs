//! The state of a run as `/status` serves it in JSON, and as `embedmill top` reads it.
//!
//! Rates and busy ratios are averages over the last [`SPAN`], from samples that the observer takes once per second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::live::{LIVE, PartitionProgress, Phase, Running, State};
use super::logs::{self, LogEntry};
use crate::record::Settled;

/// The span that rates are averaged over: long enough to be steady with windows of a second, short enough to be current.
pub(crate) const SPAN: Duration = Duration::from_secs(10);

/// The version of the JSON that this build writes, and the last that `top` reads; see docs/compatibility.md.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The current state of a run. Readers ignore fields that they do not know, which come from later versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The version of this format, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The version of embedmill.
    pub version: String,
    /// Starting, running or draining.
    pub phase: Phase,
    /// Why `/ready` answers 503; `null` if it answers 200.
    pub not_ready: Option<String>,
    /// Seconds since the observer was started.
    pub uptime_seconds: f64,
    /// The execution plan, one line per stage.
    pub plan: Vec<PlanLine>,
    /// The model in one line; `null` until it is loaded.
    pub model: Option<String>,
    /// Totals since the start.
    pub counters: Counters,
    /// Current throughput.
    pub rates: Rates,
    /// Work between source and sink.
    pub in_flight: InFlight,
    /// One entry per worker.
    pub devices: Vec<DeviceStatus>,
    /// The progress of each partition.
    pub positions: Vec<PartitionProgress>,
    /// The most recent warnings and errors of the log, the newest last.
    pub errors: Vec<LogEntry>,
}

/// One line of the execution plan, as `embedmill explain` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanLine {
    /// The name of the stage.
    pub stage: String,
    /// What the stage does.
    pub description: String,
}

/// Totals since the start. `records_read` is the sum of the other record counts and the records in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Records read by the source.
    pub records_read: u64,
    /// Records whose rows were published.
    pub records_published: u64,
    /// Records sent to the dead letters.
    pub records_dead_lettered: u64,
    /// Records that were deletes, and were published as deletes.
    pub records_deleted: u64,
    /// Records of revoked partitions, which their new owners read again.
    pub records_abandoned: u64,
    /// Rows published.
    pub rows: u64,
    /// Tokens of published windows, including special tokens.
    pub tokens: u64,
    /// Rows whose text was truncated.
    pub truncated_rows: u64,
    /// Tokens lost to truncation.
    pub truncated_tokens: u64,
    /// Windows published and committed, or abandoned.
    pub windows_settled: u64,
}

/// Settled records, rows and tokens per second, averaged over the last [`SPAN`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    /// Settled records per second.
    pub records_per_second: f64,
    /// Published rows per second.
    pub rows_per_second: f64,
    /// Encoded tokens per second.
    pub tokens_per_second: f64,
}

/// Work between source and sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    /// Windows closed but not yet settled.
    pub windows: u64,
    /// Micro-batches waiting for a worker.
    pub batches_queued: u64,
    /// Bytes of the memory budget in use.
    pub bytes: u64,
    /// The size of the memory budget.
    pub bytes_max: u64,
}

/// The work of one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceStatus {
    /// The worker's device, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Fraction of the last [`SPAN`] that the worker spent encoding, from 0 to 1.
    pub busy_ratio: f64,
    /// Micro-batches encoded since the start.
    pub batches: u64,
    /// Rows encoded since the start.
    pub rows: u64,
    /// Tokens encoded since the start.
    pub tokens: u64,
    /// Micro-batches split because the device ran out of memory.
    pub splits: u64,
}

/// The totals at one time, from which rates are computed.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    settled: Settled,
    /// Busy time of each worker.
    busy: Vec<Duration>,
}

/// The samples of the last [`SPAN`].
#[derive(Debug, Default)]
pub(crate) struct Sampler(VecDeque<Sample>);

impl Sampler {
    /// Takes a sample; to be called about once per second.
    pub(crate) fn tick(&mut self, now: Instant) {
        let state = LIVE.lock();
        self.push(Sample { at: now, settled: state.settled, busy: busy_times(&state) });
    }

    fn push(&mut self, sample: Sample) {
        // One sample older than the span is kept, so that the samples cover the whole span.
        while self.0.get(1).is_some_and(|next| sample.at.duration_since(next.at) >= SPAN) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The first sample of the span, and the seconds since it.
    fn since(&self, now: Instant) -> Option<(&Sample, f64)> {
        let first = self.0.front()?;
        let seconds = now.checked_duration_since(first.at)?.as_secs_f64();
        (seconds > 0.0).then_some((first, seconds))
    }

    fn rates(&self, settled: &Settled, now: Instant) -> Rates {
        let Some((first, seconds)) = self.since(now) else { return Rates::default() };
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Rates {
            records_per_second: rate(settled.records, first.settled.records),
            rows_per_second: rate(settled.rows, first.settled.rows),
            tokens_per_second: rate(settled.tokens, first.settled.tokens),
        }
    }

    /// The busy ratio of a worker whose total busy time is `busy`.
    fn busy_ratio(&self, worker: usize, busy: Duration, now: Instant) -> f64 {
        let Some((first, seconds)) = self.since(now) else { return 0.0 };
        let then = first.busy.get(worker).copied().unwrap_or_default();
        // A batch counts in full when it ends, even if it began before the span; hence the cap.
        (busy.saturating_sub(then).as_secs_f64() / seconds).min(1.0)
    }
}

fn busy_times(state: &State) -> Vec<Duration> {
    let pool = state.running.as_ref().map(|running| running.pool.counters());
    pool.unwrap_or_default().iter().map(|counters| counters.busy).collect()
}

impl Status {
    /// The state at `now`.
    pub(crate) fn now(plan: &[PlanLine], started: Instant, sampler: &Sampler, now: Instant) -> Status {
        let state = LIVE.lock();
        let settled = &state.settled;
        let running = state.running.as_ref();
        let devices = running.map(|running| running.pool.counters()).unwrap_or_default();
        let devices = devices.iter().enumerate().map(|(worker, counters)| DeviceStatus {
            device: counters.device.to_string(),
            busy_ratio: sampler.busy_ratio(worker, counters.busy, now),
            batches: counters.batches,
            rows: counters.rows,
            tokens: counters.tokens,
            splits: counters.splits,
        });
        Status {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            phase: state.phase(),
            not_ready: state.not_ready(),
            uptime_seconds: now.duration_since(started).as_secs_f64(),
            plan: plan.to_vec(),
            model: state.model.clone(),
            counters: Counters::of(settled),
            rates: sampler.rates(settled, now),
            in_flight: InFlight::of(running),
            devices: devices.collect(),
            positions: state.partitions.sorted(),
            errors: logs::recent(),
        }
    }
}

impl Counters {
    fn of(settled: &Settled) -> Counters {
        use std::sync::atomic::Ordering::Relaxed;
        Counters {
            records_published: settled.published(),
            records_dead_lettered: settled.dead_lettered(),
            records_deleted: settled.deletes,
            records_abandoned: settled.abandoned,
            rows: settled.rows,
            tokens: settled.tokens,
            truncated_rows: settled.truncated_rows,
            truncated_tokens: settled.truncated_tokens,
            windows_settled: LIVE.windows_settled.load(Relaxed),
            // Loaded last, because records are read before they are settled.
            records_read: LIVE.records_read.load(Relaxed),
        }
    }
}

impl InFlight {
    pub(super) fn of(running: Option<&Running>) -> InFlight {
        let Some(Running { budget, pool, .. }) = running else { return InFlight::default() };
        InFlight {
            windows: LIVE.windows_in_flight(),
            batches_queued: pool.queued() as u64,
            bytes: budget.in_flight() as u64,
            bytes_max: budget.bytes_max() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_the_span() {
        let start = Instant::now();
        let mut sampler = Sampler::default();
        let at = |second: u64| start + Duration::from_secs(second);
        let settled = |records: u64| Settled { records, tokens: 10 * records, ..Default::default() };
        assert_eq!(sampler.rates(&settled(5), start), Rates::default());
        // 100 a second for 30 s, then nothing.
        for second in 0..30 {
            let busy = vec![Duration::from_millis(500 * second)];
            sampler.push(Sample { at: at(second), settled: settled(100 * second), busy });
        }
        assert_eq!(sampler.0.len(), 11);
        let rates = sampler.rates(&settled(2_900), at(29));
        assert_eq!((rates.records_per_second, rates.tokens_per_second), (100.0, 1_000.0));
        assert_eq!(sampler.busy_ratio(0, Duration::from_millis(14_500), at(29)), 0.5);
        assert_eq!(sampler.busy_ratio(1, Duration::ZERO, at(29)), 0.0);
        assert!(sampler.rates(&settled(2_900), at(39)).records_per_second < 60.0);
    }
}

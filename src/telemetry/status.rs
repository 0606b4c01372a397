//! The state of a run as `/status` serves it, in JSON, and as `embedmill top` reads it back.
//!
//! Rates and busy shares are over the last [`SPAN`], from samples that the observer takes once a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::live::{LIVE, PartitionProgress, Phase, Running, State};
use super::logs::{self, Noted};
use crate::record::Settled;

/// What rates are over: long enough to be calm with windows of a second, short enough to follow.
pub const SPAN: Duration = Duration::from_secs(10);

/// A run, as it is now. Fields that a reader does not know are of a later version, and left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub phase: Phase,
    /// Why `/ready` says no; `null` where it says yes.
    pub not_ready: Option<String>,
    pub uptime_seconds: f64,
    /// A line a stage.
    pub plan: Vec<PlanLine>,
    /// `null` until it is loaded.
    pub model: Option<String>,
    pub counters: Counters,
    pub rates: Rates,
    pub in_flight: InFlight,
    pub devices: Vec<DeviceStatus>,
    pub positions: Vec<PartitionProgress>,
    /// The last warnings and errors of the log, the newest last.
    pub errors: Vec<Noted>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLine {
    pub stage: String,
    pub what: String,
}

/// Since the start. Records read are those in flight and all of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub records_read: u64,
    pub records_published: u64,
    pub records_dead_lettered: u64,
    pub records_deleted: u64,
    pub records_abandoned: u64,
    pub rows: u64,
    pub tokens: u64,
    pub truncated_rows: u64,
    pub truncated_tokens: u64,
    pub windows_settled: u64,
}

/// A second, over the last [`SPAN`], of what is settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub records: f64,
    pub rows: f64,
    pub tokens: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub windows: u64,
    pub batches_queued: u64,
    pub bytes: u64,
    pub bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    pub device: String,
    /// Share of the last [`SPAN`] that it spent in the model.
    pub busy: f64,
    pub batches: u64,
    pub rows: u64,
    pub tokens: u64,
    pub splits: u64,
}

/// The counts that rates are made of, at one time.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    settled: Settled,
    /// A worker each.
    busy: Vec<Duration>,
}

/// Keeps samples of the last [`SPAN`].
#[derive(Debug, Default)]
pub struct Sampler(VecDeque<Sample>);

impl Sampler {
    /// Takes a sample; call it about once a second.
    pub fn tick(&mut self, now: Instant) {
        let state = LIVE.lock();
        self.push(Sample { at: now, settled: state.settled, busy: busy(&state) });
    }

    fn push(&mut self, sample: Sample) {
        // One older than the span stays, so that the samples span it.
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
            records: rate(settled.records, first.settled.records),
            rows: rate(settled.rows, first.settled.rows),
            tokens: rate(settled.tokens, first.settled.tokens),
        }
    }

    /// The busy share of a worker that has been busy for so long altogether.
    fn busy(&self, worker: usize, busy: Duration, now: Instant) -> f64 {
        let Some((first, seconds)) = self.since(now) else { return 0.0 };
        let then = first.busy.get(worker).copied().unwrap_or_default();
        // A batch counts when it is done, also with what of it lay before the span.
        (busy.saturating_sub(then).as_secs_f64() / seconds).min(1.0)
    }
}

fn busy(state: &State) -> Vec<Duration> {
    let pool = state.running.as_ref().map(|running| running.pool.counters());
    pool.unwrap_or_default().iter().map(|counters| counters.busy).collect()
}

impl Status {
    /// The state now.
    pub fn now(plan: &[PlanLine], started: Instant, sampler: &Sampler, now: Instant) -> Status {
        let state = LIVE.lock();
        let settled = &state.settled;
        let running = state.running.as_ref();
        let devices = running.map(|running| running.pool.counters()).unwrap_or_default();
        let devices = devices.iter().enumerate().map(|(worker, counters)| DeviceStatus {
            device: counters.device.to_string(),
            busy: sampler.busy(worker, counters.busy, now),
            batches: counters.batches,
            rows: counters.rows,
            tokens: counters.tokens,
            splits: counters.splits,
        });
        Status {
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
            errors: logs::last(),
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
            // Last: what is settled was read before.
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
        assert_eq!((rates.records, rates.tokens), (100.0, 1_000.0));
        assert_eq!(sampler.busy(0, Duration::from_millis(14_500), at(29)), 0.5);
        assert_eq!(sampler.busy(1, Duration::ZERO, at(29)), 0.0);
        assert!(sampler.rates(&settled(2_900), at(39)).records < 60.0);
    }
}

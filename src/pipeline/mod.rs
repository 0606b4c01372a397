//! The list of all stages: how they start, how they are connected, and how they drain and stop.
//!
//! ```text
//! source thread ─ Records ─► prepare: blocking pool, in order ─ Block ─► windows ─ Window ─► encode: one worker thread per
//! device, windows in order ─ EncodedWindow ─► delivery thread
//! ```
//!
//! In: a [`Pipeline`], which owns all stages. Out: a [`Summary`]. Every channel is short; the memory of a run is
//! limited by the budget of bytes that the source acquires and that settled windows release. A drain stops the source
//! and lets the stages behind it finish, for at most `drain_ms`. An error, an abort or a longer drain stops all stages:
//! the sink is dropped unfinished, so no unfinished file remains under its final name.

mod encode;
mod outcome;
mod prepare;
mod threads;
mod tuning;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::future::{Fuse, FusedFuture, FutureExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use outcome::{Progress, RunError, Stop, Summary};
pub use tuning::Tuning;

use self::encode::EncodeStage;
use self::prepare::PrepareStage;
use self::threads::{Delivered, on_thread, start_delivery, start_source, thread_died};
use crate::batch::PaddingMode;
use crate::budget::Budget;
use crate::delivery::Delivery;
use crate::encode::worker::WorkerPool;
use crate::output::OutputSchema;
use crate::record::Settled;
use crate::sink::Written;
use crate::source::{RecordSender, Source};
use crate::telemetry::events;
use crate::text::extract::Extractor;
use crate::window::{WindowBuilder, WindowConfig};

/// How many encoded windows may wait for delivery: one that is being written, and the next.
const DELIVERY_WINDOWS: usize = 2;

/// How long a stopped run waits for the delivery thread to drop its sink.
const DELIVERY_STOP_MAX: Duration = Duration::from_secs(2);

/// Everything that a run owns.
pub struct Pipeline {
    /// Reads the records.
    pub source: Box<dyn Source>,
    /// Turns records into rows.
    pub extractor: Arc<Extractor>,
    /// The limits of windows at the start, and of memory.
    pub window: WindowConfig,
    /// Whether windows close by age.
    pub live: bool,
    /// Maximum tokens of a window, whatever `tuning` sets.
    pub window_tokens_max: usize,
    /// Which tokens of a batch count against its limit.
    pub padding: PaddingMode,
    /// Settings that can change during the run; they override those in `window`.
    pub tuning: watch::Receiver<Tuning>,
    /// Encodes batches, on one thread per device.
    pub workers: WorkerPool,
    /// The columns of the output.
    pub output: Arc<OutputSchema>,
    /// Publishes windows.
    pub delivery: Delivery,
}

impl Pipeline {
    /// Runs until the source ends or is drained, and everything read is delivered.
    ///
    /// # Errors
    /// The error of the stage that failed first, or that the run was aborted or its drain took too long.
    pub async fn run(self, stop: Stop, progress: Arc<Progress>) -> Result<Summary, RunError> {
        let started = Instant::now();
        let tuning = self.tuning.clone();
        // However this function returns, the source learns that the run is over.
        let over = CancellationToken::new();
        let _over_on_return = over.clone().drop_guard();
        let mut stages = Stages::start(self, stop.drain.clone(), over, progress);
        let outcome = tokio::select! {
            biased;
            () = stop.abort.cancelled() => Err(RunError::Aborted),
            drain_max = drained_too_long(&stop.drain, &tuning) => Err(RunError::DrainTooLong(drain_max)),
            finished = stages.finish(&stop.drain) => finished,
        };
        if outcome.is_err() {
            stages.abort().await;
        }
        // Joins the threads of the workers, which may be in the middle of a batch.
        let workers = stages.workers;
        spawn_blocking(move || drop(workers)).await?;
        let Finished { settled, windows, written } = outcome?;
        Ok(Summary { settled, windows, written, elapsed: started.elapsed(), drained: stop.drain.is_cancelled() })
    }
}

/// The running stages.
struct Stages {
    source: oneshot::Receiver<Result<(), RunError>>,
    /// How long a drain waits for the source's thread.
    source_leave_max: Duration,
    prepare: JoinHandle<Result<(), RunError>>,
    encode: JoinHandle<Result<(), RunError>>,
    deliver: Fuse<oneshot::Receiver<Result<Delivered, RunError>>>,
    /// Tells delivery to stop trying again.
    aborted: CancellationToken,
    workers: Arc<WorkerPool>,
}

/// What a run has done when all stages have finished.
struct Finished {
    settled: Settled,
    windows: u64,
    written: Vec<Written>,
}

impl Stages {
    fn start(pipeline: Pipeline, drain: CancellationToken, over: CancellationToken, progress: Arc<Progress>) -> Stages {
        let overhead_bytes = record_overhead_bytes(pipeline.workers.dim());
        let open_window_bytes = pipeline.window.bytes + pipeline.window.records * overhead_bytes;
        let budget = Budget::new(pipeline.window.in_flight_bytes, open_window_bytes, overhead_bytes);
        events::running(budget.clone(), pipeline.workers.watch(), drain.clone());
        let prepare_threads = thread::available_parallelism().map_or(1, usize::from);
        let windows_in_flight = match pipeline.output.vectors_per_row(2) {
            1 => 2 + 2 * pipeline.workers.counters().len(),
            // The token vectors of a window are much larger than its records; `Plan::window` allows for one window.
            _ => 1,
        };

        let (records_in, records) = mpsc::channel(prepare_threads);
        let (windows_in, windows) = mpsc::channel(1);
        let (encoded_in, encoded) = mpsc::channel(DELIVERY_WINDOWS);

        let source_leave_max = pipeline.source.leave_max();
        let sender = RecordSender::new(Handle::current(), records_in, budget, drain.clone(), over);
        let source = start_source(pipeline.source, sender);
        let prepare = PrepareStage {
            extractor: pipeline.extractor,
            threads: prepare_threads,
            builder: WindowBuilder::new(pipeline.window, pipeline.live),
            window_tokens_max: pipeline.window_tokens_max,
            tuning: pipeline.tuning.clone(),
            drain,
        };
        let prepare = tokio::spawn(prepare.run(records, windows_in));
        let workers = Arc::new(pipeline.workers);
        let encode = EncodeStage {
            workers: workers.clone(),
            output: pipeline.output,
            padding: pipeline.padding,
            tuning: pipeline.tuning,
        };
        let encode = tokio::spawn(encode.run(windows, windows_in_flight, encoded_in));
        let aborted = CancellationToken::new();
        let deliver = start_delivery(pipeline.delivery, encoded, progress, aborted.clone()).fuse();
        Stages { source, source_leave_max, prepare, encode, deliver, aborted, workers }
    }

    /// Waits until all stages have finished, then finishes the output.
    async fn finish(&mut self, drain: &CancellationToken) -> Result<Finished, RunError> {
        // In the order of causes: if delivery fails, the stages before it only find their channels closed.
        let delivered = (&mut self.deliver).await.unwrap_or_else(|_| Err(thread_died("delivery")))?;
        (&mut self.encode).await??;
        (&mut self.prepare).await??;
        let leave_max = self.source_leave_max;
        tokio::select! {
            biased;
            ended = &mut self.source => ended.unwrap_or_else(|_| Err(thread_died("source")))?,
            // The source may block in a read of standard input; the records that it has sent are delivered.
            () = drain.cancelled().then(|()| tokio::time::sleep(leave_max)) => {}
        }
        let Delivered { delivery, settled, windows } = delivered;
        // On its own thread, so that the process can end although a broker does not answer.
        let finished = on_thread("finish", move || delivery.finish());
        let written = finished.await.unwrap_or_else(|_| Err(thread_died("finish")))?;
        Ok(Finished { settled, windows, written })
    }

    /// Stops all stages, and waits until delivery has dropped its sink, which removes temporary files.
    async fn abort(&mut self) {
        self.aborted.cancel();
        self.prepare.abort();
        self.encode.abort();
        // Delivery may be waiting for a broker that does not answer, so the wait is limited.
        if !self.deliver.is_terminated() {
            let _ = timeout(DELIVERY_STOP_MAX, &mut self.deliver).await;
        }
    }
}

/// Waits until a drain has taken longer than it may, and returns how long it may take.
async fn drained_too_long(drain: &CancellationToken, tuning: &watch::Receiver<Tuning>) -> Duration {
    drain.cancelled().await;
    let drain_max = tuning.borrow().drain_max;
    tokio::time::sleep(drain_max).await;
    drain_max
}

/// What a record costs beyond its own bytes: its vector, both as the encoder returns it and in the window's column, and
/// its tokens, hash and id.
fn record_overhead_bytes(dim: usize) -> usize {
    2 * dim * size_of::<f32>() + 256
}

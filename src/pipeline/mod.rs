//! The one list of stages: their channels, their bounds, how they start, drain and stop.
//!
//! ```text
//! source thread ─ Records ─► prepare: blocking pool, in order ─ Block ─► windows ─ Window ─► encode: a worker thread a
//! device, windows in order ─ EncodedWindow ─► delivery thread
//! ```
//!
//! Every channel is short; what bounds memory is the budget of bytes that the source takes from and the settled window
//! gives back. A drain stops the source and lets everything behind it finish, for `drain_ms` at most. An error, an abort or
//! a drain that takes longer stops everything: the sink is dropped unfinished, so nothing half-written stays under a final
//! name.

mod outcome;
mod threads;
mod tuning;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::future::{FusedFuture, FutureExt, join_all, pending};
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use outcome::{Progress, RunError, Stop, Summary};
pub use tuning::Tuning;

use self::threads::{Deliveries, gone, on_thread, start_delivery, start_source};
use crate::batch::{self, PaddingMode, TokenBatch};
use crate::budget::Budget;
use crate::delivery::{Delivery, EncodedWindow};
use crate::encode::worker::WorkerPool;
use crate::matrix::Matrix;
use crate::output::OutputSchema;
use crate::record::{Block, DeadLetter, Records, Rejection, Stage, Timestamps};
use crate::source::{RecordSender, Source};
use crate::telemetry::events;
use crate::telemetry::traces::WindowTrace;
use crate::text::extract::Extractor;
use crate::window::{Window, WindowBuilder, WindowConfig};

/// Encoded windows that may wait for delivery: one being written, one ready behind it.
const DELIVERY_WINDOWS: usize = 2;

/// How long a run that is given up waits for delivery's thread.
const LET_GO_MAX: Duration = Duration::from_secs(2);

/// Everything that a run owns.
pub struct Pipeline {
    pub source: Box<dyn Source>,
    pub extractor: Arc<Extractor>,
    pub window: WindowConfig,
    /// Whether windows close by age.
    pub live: bool,
    /// Most tokens of a window, whatever `tuning` says.
    pub window_tokens_max: usize,
    /// What counts against the batch's budget.
    pub padding: PaddingMode,
    /// What can change while it runs; of `window`, the limits that are here too are those of the start.
    pub tuning: watch::Receiver<Tuning>,
    pub workers: WorkerPool,
    pub output: Arc<OutputSchema>,
    pub delivery: Delivery,
}

impl Pipeline {
    /// Runs until the source ends or is drained, and everything read is delivered.
    pub async fn run(self, stop: Stop, progress: Arc<Progress>) -> Result<Summary, RunError> {
        let started = Instant::now();
        let overhead_bytes = record_overhead_bytes(self.workers.dim());
        let open_window_bytes = self.window.bytes + self.window.records * overhead_bytes;
        let budget = Budget::new(self.window.in_flight_bytes, open_window_bytes, overhead_bytes);
        let drain = stop.drain.clone();
        events::running(budget.clone(), self.workers.watch(), drain.clone());
        // Tells the source, whatever way this returns, that nobody waits for it.
        let over = CancellationToken::new();
        let _over_on_return = over.clone().drop_guard();
        let prepare_threads = thread::available_parallelism().map_or(1, usize::from);
        let windows_in_flight = match self.output.vectors_per_row(2) {
            1 => 2 + 2 * self.workers.counters().len(),
            // A window's token vectors are much more than its records: see `Plan::window`.
            _ => 1,
        };

        let (records_in, records) = mpsc::channel(prepare_threads);
        let (windows_in, windows) = mpsc::channel(1);
        let (encoded_in, encoded) = mpsc::channel(DELIVERY_WINDOWS);

        let leave_max = self.source.leave_max();
        let source =
            start_source(self.source, RecordSender::new(Handle::current(), records_in, budget, drain.clone(), over));
        let builder = WindowBuilder::new(self.window, self.live);
        let tokens_max = self.window_tokens_max;
        let extract = Extract { extractor: self.extractor, threads: prepare_threads };
        let tuning = self.tuning.clone();
        let mut prepare =
            tokio::spawn(prepare(records, (drain.clone(), tuning), extract, (builder, tokens_max), windows_in));
        let workers = Arc::new(self.workers);
        let stage = EncodeStage {
            workers: workers.clone(),
            output: self.output,
            padding: self.padding,
            tuning: self.tuning.clone(),
        };
        let mut encode = tokio::spawn(encode(windows, stage, windows_in_flight, encoded_in));
        let given_up = CancellationToken::new();
        let mut deliver = start_delivery(self.delivery, encoded, progress, given_up.clone()).fuse();

        let all = async {
            // In the order of causes: when delivery fails, the stages before it only find their channels closed.
            let delivered = (&mut deliver).await.unwrap_or_else(|_| Err(gone("delivery's")))?;
            (&mut encode).await??;
            (&mut prepare).await??;
            tokio::select! {
                biased;
                ended = source => ended.unwrap_or_else(|_| Err(gone("the source's")))?,
                // It may sit in a read of standard input that nobody will answer; what it gave is delivered.
                () = drain.cancelled().then(|()| tokio::time::sleep(leave_max)) => {}
            }
            let Deliveries { delivery, settled, windows } = delivered;
            // On a thread of its own, so that nothing at the process's end waits for a broker that does not answer.
            let finished = on_thread("finish", move || delivery.finish());
            Ok((settled, windows, finished.await.unwrap_or_else(|_| Err(gone("the finishing")))?))
        };
        let outcome = tokio::select! {
            biased;
            () = stop.abort.cancelled() => Err(RunError::Aborted),
            drain_max = drained_too_long(&stop.drain, &self.tuning) => Err(RunError::DrainTooLong(drain_max)),
            done = all => done,
        };
        if outcome.is_err() {
            given_up.cancel();
            prepare.abort();
            encode.abort();
            // Waits until delivery has let go of the sink, which takes the temporary files away. It may be in the middle
            // of a question to a broker that is away.
            if !deliver.is_terminated() {
                let _ = timeout(LET_GO_MAX, deliver).await;
            }
        }
        // Joins the workers' threads, which may be in the middle of a batch.
        spawn_blocking(move || drop(workers)).await?;
        let (settled, windows, written) = outcome?;
        Ok(Summary { settled, windows, written, elapsed: started.elapsed(), drained: stop.drain.is_cancelled() })
    }
}

/// Waits until a drain has taken as long as it may, which is returned.
async fn drained_too_long(drain: &CancellationToken, tuning: &watch::Receiver<Tuning>) -> Duration {
    drain.cancelled().await;
    let drain_max = tuning.borrow().drain_max;
    tokio::time::sleep(drain_max).await;
    drain_max
}

/// What a record weighs beyond its own bytes: its vector as it comes from the encoder and again in the window's column,
/// and its tokens, hash and id.
fn record_overhead_bytes(dim: usize) -> usize {
    2 * dim * size_of::<f32>() + 256
}

struct Extract {
    extractor: Arc<Extractor>,
    threads: usize,
}

/// Extracts and tokenises on several threads, keeps the order, and cuts windows.
async fn prepare(
    mut records: mpsc::Receiver<Records>,
    (drain, mut tuning): (CancellationToken, watch::Receiver<Tuning>),
    Extract { extractor, threads }: Extract,
    (mut builder, tokens_max): (WindowBuilder, usize),
    windows: mpsc::Sender<Window>,
) -> Result<(), RunError> {
    let mut blocks: VecDeque<JoinHandle<Block>> = VecDeque::new();
    let mut more = true;
    let (mut draining, mut reloads) = (false, true);
    while more || !blocks.is_empty() {
        let deadline = builder.deadline();
        let room = more && blocks.len() < threads;
        let age = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        let next_block = async {
            match blocks.front_mut() {
                Some(block) => block.await,
                None => pending().await,
            }
        };
        tokio::select! {
            block = next_block => {
                blocks.pop_front();
                builder.push(block?, Instant::now());
            }
            received = records.recv(), if room => match received {
                Some(records) => {
                    let extractor = extractor.clone();
                    blocks.push_back(spawn_blocking(move || {
                        let started = Instant::now();
                        let mut block = extractor.block(records);
                        events::block_prepared(started.elapsed());
                        block.times = Timestamps { began: started, prepared: Instant::now(), ..block.times };
                        block
                    }));
                }
                None => more = false,
            },
            () = age => {}
            changed = tuning.changed(), if reloads => match changed {
                Ok(()) => {
                    let tuning = tuning.borrow_and_update();
                    builder.tune(tuning.window_tokens.min(tokens_max), tuning.linger);
                }
                Err(_) => reloads = false,
            },
            // The source may be waiting for input; what it has handed over is still taken.
            () = drain.cancelled(), if !draining => {
                draining = true;
                records.close();
            }
        }
        while let Some(window) = builder.next_ready(Instant::now()) {
            if windows.send(window).await.is_err() {
                return Ok(());
            }
        }
    }
    builder.finish();
    while let Some(window) = builder.next_ready(Instant::now()) {
        if windows.send(window).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

struct EncodeStage {
    workers: Arc<WorkerPool>,
    output: Arc<OutputSchema>,
    padding: PaddingMode,
    tuning: watch::Receiver<Tuning>,
}

/// Encodes several windows at once and hands them on in order.
async fn encode(
    mut windows: mpsc::Receiver<Window>,
    stage: EncodeStage,
    windows_in_flight: usize,
    encoded: mpsc::Sender<EncodedWindow>,
) -> Result<(), RunError> {
    let windows = stream::poll_fn(|context| windows.poll_recv(context));
    let in_order = windows.map(|window| stage.start(window)).buffered(windows_in_flight);
    let mut in_order = std::pin::pin!(in_order);
    while let Some(window) = in_order.next().await {
        if encoded.send(window?).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl EncodeStage {
    /// Queues the window's batches at once, so that devices take them in the order of windows, and returns the future that
    /// waits for them. Dropping it lets the batches go that no device has begun.
    fn start(&self, window: Window) -> impl Future<Output = Result<EncodedWindow, RunError>> + use<> {
        let rows: Vec<&[u32]> = window.row_places().map(|(block, row)| block.tokens.ids(row)).collect();
        let lengths: Vec<usize> = rows.iter().map(|ids| ids.len()).collect();
        let config = self.tuning.borrow().batch.clone();
        let plans = batch::plan(&lengths, &config, self.padding);
        events::window_closed(&window, &plans, &config);
        let mut trace = WindowTrace::begin(&window, plans.len());
        let queued: Vec<_> = plans
            .into_iter()
            .map(|plan| {
                let batch: TokenBatch = plan.rows.iter().map(|&row| rows[row]).collect();
                let encoded = self.workers.submit_under(batch, trace.encode());
                async move { (plan.rows, encoded.await) }
            })
            .collect();
        let (output, dim) = (self.output.clone(), self.workers.dim());
        async move {
            // Where each row's vectors begin: one a row, or one a token.
            let mut firsts = vec![0];
            firsts.extend(lengths.iter().scan(0, |end, length| {
                *end += output.vectors_per_row(*length);
                Some(*end)
            }));
            let mut vectors = Matrix::zeros(firsts[window.rows()], dim);
            for (rows, encoded) in join_all(queued).await {
                let encoded = encoded?;
                let places = rows.into_iter().flat_map(|row| firsts[row]..firsts[row + 1]);
                for (index, place) in places.enumerate() {
                    vectors.row_mut(place).copy_from_slice(encoded.row(index));
                }
            }
            let mut encoded = spawn_blocking(move || assemble(window, vectors, &output)).await??;
            trace.encoded();
            encoded.trace = trace;
            Ok(encoded)
        }
    }
}

/// Puts a window's rows together, and collects the records that have none.
fn assemble(window: Window, vectors: Matrix, output: &OutputSchema) -> Result<EncodedWindow, RunError> {
    let (output, not_finite) = output.assemble(&window, vectors).map_err(RunError::Defect)?;
    let mut rejected = Vec::new();
    let mut first_row = 0;
    for block in &window.blocks {
        let encode = not_finite.iter().filter(|row| (first_row..first_row + block.rows()).contains(row));
        let encode = encode.map(|row| Rejection {
            record: block.row_records[row - first_row],
            stage: Stage::Encode,
            cause: "the model's vector has a value that is no finite number".into(),
        });
        let mut of_block: Vec<Rejection> = block.rejected.iter().cloned().chain(encode).collect();
        of_block.sort_by_key(|rejection| rejection.record);
        rejected.extend(of_block.into_iter().map(|Rejection { record, stage, cause }| DeadLetter {
            position: block.position(record),
            stage,
            cause,
            raw: block.body.raw(record),
            envelope: block.body.envelope(record).cloned(),
        }));
        first_row += block.rows();
    }
    Ok(EncodedWindow { window, output, rejected, trace: WindowTrace::default() })
}

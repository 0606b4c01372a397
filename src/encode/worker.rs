//! Batches in, matrices out: one worker thread per device, all fed from one queue.
//!
//! Every worker builds its encoder on its own thread. [`WorkerPool::start`] returns when all encoders are built, so a model
//! that does not load is known before any data moves. The queue is first in, first out, and whichever worker is free takes the
//! next batch, so a slow device gets fewer batches. The queue is unbounded; callers bound how much they have in flight.
//! A worker halves a batch that its device's memory cannot hold and encodes the halves. A panic in an encoder ends the pool:
//! its batch and all queued batches fail with [`EncodeError::WorkerPanicked`]. Dropping the pool lets the workers finish the
//! queued batches, then joins them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use futures::channel::oneshot;

use super::{EncodeError, Encoder};
use crate::batch::TokenBatch;
use crate::device::Device;
use crate::matrix::Matrix;
use crate::model::LoadError;
use crate::telemetry::events;
use crate::telemetry::traces::Parent;
use crate::telemetry::workers::{DeviceCounters, PoolWatch, WorkerCounters};

/// Builds the encoder of a worker on this device. The worker's thread calls it.
pub type EncoderFactory = Arc<dyn Fn(&Device) -> Result<Box<dyn Encoder>, LoadError> + Send + Sync>;

/// The running workers. Dropping the pool waits for them.
pub struct WorkerPool {
    queue: async_channel::Sender<Job>,
    workers: Vec<Worker>,
    dim: usize,
}

struct Job {
    batch: TokenBatch,
    reply: oneshot::Sender<Result<Matrix, EncodeError>>,
    /// The parent of the batch's trace span.
    parent: Parent,
}

struct Worker {
    device: Device,
    counters: Arc<WorkerCounters>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerPool {
    /// Starts one worker per device and waits until all have built their encoder. Blocks while models load.
    ///
    /// # Errors
    /// If an encoder cannot be built: the error of the first such device in the list. All threads have then ended.
    pub fn start(devices: &[Device], factory: EncoderFactory) -> Result<WorkerPool, LoadError> {
        let (queue, jobs) = async_channel::unbounded();
        let mut pool = WorkerPool { queue, workers: Vec::new(), dim: 0 };
        let mut loading = Vec::new();
        for (number, &device) in devices.iter().enumerate() {
            let (ready, loaded) = mpsc::channel();
            let counters = Arc::new(WorkerCounters::default());
            let worker = (jobs.clone(), counters.clone(), factory.clone());
            let thread = std::thread::Builder::new().name(format!("encode-{device}")).spawn(move || {
                let (jobs, counters, factory) = worker;
                run(device, number, &factory, ready, &jobs, &counters);
            });
            let thread = thread
                .map_err(|error| LoadError::Load { device, message: format!("no thread can be started: {error}") })?;
            pool.workers.push(Worker { device, counters, thread: Some(thread) });
            loading.push((device, loaded));
        }
        for (device, loaded) in loading {
            // A worker that drops the sender without an answer panicked.
            let panicked = || LoadError::Load {
                device,
                message: "the worker's thread panicked (its message is on standard error)".into(),
            };
            pool.dim = loaded.recv().map_err(|_| panicked())??;
        }
        Ok(pool)
    }

    /// Length of the vectors that the workers return.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Queues the batch at once. The future resolves to what [`Encoder::encode`] returns for it.
    pub fn submit(
        &self,
        batch: TokenBatch,
    ) -> impl Future<Output = Result<Matrix, EncodeError>> + Send + 'static + use<> {
        self.submit_under(batch, Parent::default())
    }

    /// Like [`submit`](WorkerPool::submit), with the batch's trace span under `parent`.
    pub fn submit_under(
        &self,
        batch: TokenBatch,
        parent: Parent,
    ) -> impl Future<Output = Result<Matrix, EncodeError>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        // A closed queue drops the job and its sender. The future then resolves to `WorkerPanicked`, for only a panic closes it.
        drop(self.queue.try_send(Job { batch, reply, parent }));
        async move { answer.await.unwrap_or(Err(EncodeError::WorkerPanicked)) }
    }

    /// The number of batches that no worker has taken yet.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The counters of each worker, in the order of the devices.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        self.watch().counters()
    }

    /// A view of the queue and the counters that does not keep the pool alive.
    pub fn watch(&self) -> PoolWatch {
        let queue = self.queue.downgrade();
        let queued = move || queue.upgrade().map_or(0, |queue| queue.len());
        PoolWatch::new(queued, self.workers.iter().map(|worker| (worker.device, worker.counters.clone())))
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.queue.close();
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A worker catches its encoder's panics. The runtime reports a panic outside the encoder on standard error.
                drop(thread.join());
            }
        }
    }
}

/// A worker's thread: builds the encoder, reports it to `ready`, then encodes batches until the queue is closed and empty.
fn run(
    device: Device,
    number: usize,
    factory: &EncoderFactory,
    ready: mpsc::Sender<Result<usize, LoadError>>,
    jobs: &async_channel::Receiver<Job>,
    counters: &WorkerCounters,
) {
    let mut encoder = match factory(&device) {
        Ok(encoder) => encoder,
        Err(error) => {
            drop(ready.send(Err(error)));
            return;
        }
    };
    drop(ready.send(Ok(encoder.dim())));
    while let Ok(Job { batch, reply, parent }) = jobs.recv_blocking() {
        // Nobody waits for this batch any more: the run was abandoned.
        if reply.is_canceled() {
            continue;
        }
        let start = Instant::now();
        // Unwind safety: after a panic the encoder is dropped without another use, so no broken invariant in it is observed.
        let mut on_split = || {
            counters.split();
            events::batch_split(device, number);
        };
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| encode(encoder.as_mut(), &batch, &mut on_split))) else {
            jobs.close();
            drop(reply.send(Err(EncodeError::WorkerPanicked)));
            while let Ok(job) = jobs.try_recv() {
                drop(job.reply.send(Err(EncodeError::WorkerPanicked)));
            }
            return;
        };
        let took = start.elapsed();
        events::batch_encoded(device, number, took);
        parent.batch(device, number, batch.rows(), batch.tokens(), start, result.is_ok());
        let size = result.is_ok().then_some((batch.rows(), batch.tokens()));
        counters.batch(took, size);
        // The receiver may be gone if the run was stopped meanwhile.
        drop(reply.send(result));
    }
}

/// Encodes a batch. Halves it while the device's memory cannot hold it, down to a single sequence. `on_split` is called for each
/// split.
fn encode(encoder: &mut dyn Encoder, batch: &TokenBatch, on_split: &mut dyn FnMut()) -> Result<Matrix, EncodeError> {
    let error = match encoder.encode(batch) {
        Err(error @ EncodeError::OutOfMemory { .. }) => error,
        other => {
            if let Ok(matrix) = &other {
                let rows = [batch.rows(), batch.tokens()];
                debug_assert!(rows.contains(&matrix.rows()), "an encoder returns one row per sequence or per token");
            }
            return other;
        }
    };
    let Some((first, second)) = batch.halves() else { return Err(error) };
    on_split();
    let first = encode(encoder, &first, on_split)?;
    let second = encode(encoder, &second, on_split)?;
    let dim = first.dim();
    let mut values = first.into_values();
    values.extend(second.into_values());
    Ok(Matrix::new(dim, values))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use futures::future::join_all;

    /// Encodes each row as its first id. Runs out of memory over `rows_max` rows, and panics at id 13.
    struct Fake {
        rows_max: usize,
        nap: Duration,
    }

    impl Encoder for Fake {
        fn dim(&self) -> usize {
            1
        }

        fn encode(&mut self, batch: &TokenBatch) -> Result<Matrix, EncodeError> {
            std::thread::sleep(self.nap);
            let (rows, tokens) = (batch.rows(), batch.tokens());
            if rows > self.rows_max {
                return Err(EncodeError::OutOfMemory { rows, tokens, message: "fake".into() });
            }
            assert!(!batch.ids().contains(&13), "the test's panic: 13");
            Ok(Matrix::new(1, (0..rows).map(|row| batch.row(row)[0] as f32).collect()))
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime without drivers").block_on(future)
    }

    fn pool(workers: usize, rows_max: usize, nap_ms: u64) -> WorkerPool {
        let factory: EncoderFactory =
            Arc::new(move |_| Ok(Box::new(Fake { rows_max, nap: Duration::from_millis(nap_ms) })));
        WorkerPool::start(&vec![Device::Cpu; workers], factory).expect("a fake always loads")
    }

    fn batch(ids: &[u32]) -> TokenBatch {
        ids.iter().map(std::slice::from_ref).collect()
    }

    #[test]
    fn every_batch_gets_its_own_answer_and_all_workers_work() {
        let pool = pool(2, 10, 2);
        let answers = join_all((0..20u32).map(|n| pool.submit(batch(&[100 + n, 50 + n]))));
        for (n, answer) in (0..20u16).zip(block_on(answers)) {
            assert_eq!(answer.expect("it encodes").into_values(), [100.0 + f32::from(n), 50.0 + f32::from(n)]);
        }
        let counters = pool.counters();
        assert_eq!(counters.iter().map(|c| (c.batches, c.rows, c.tokens)).fold((0, 0, 0), add), (20, 40, 40));
        assert!(counters.iter().all(|c| c.batches > 0 && c.busy > Duration::ZERO), "{counters:?}");
    }

    fn add(a: (u64, u64, u64), b: (u64, u64, u64)) -> (u64, u64, u64) {
        (a.0 + b.0, a.1 + b.1, a.2 + b.2)
    }

    #[test]
    fn too_large_for_the_device_is_split_and_a_single_row_is_an_error() {
        let small = pool(1, 2, 0);
        let ids: Vec<u32> = (20..31).collect();
        let matrix = block_on(small.submit(batch(&ids))).expect("it is split");
        assert_eq!(matrix.into_values(), ids.iter().map(|&id| id as f32).collect::<Vec<_>>());
        assert!(small.counters()[0].splits > 0);
        let none = pool(1, 0, 0);
        let error = block_on(none.submit(batch(&[1, 2, 3])));
        assert!(matches!(error, Err(EncodeError::OutOfMemory { rows: 1, tokens: 1, .. })), "{error:?}");
    }

    #[test]
    fn a_panic_reaches_its_batch_and_all_that_wait() {
        let pool = pool(1, 10, 5);
        let answers: Vec<_> = [1, 13, 2, 3].map(|id| pool.submit(batch(&[id]))).into();
        let answers = block_on(join_all(answers));
        assert!(answers[0].is_ok());
        for answer in &answers[1..] {
            assert!(matches!(answer, Err(EncodeError::WorkerPanicked)), "{answer:?}");
        }
        assert!(matches!(block_on(pool.submit(batch(&[4]))), Err(EncodeError::WorkerPanicked)));
    }

    #[test]
    fn a_device_that_does_not_load_is_named_and_nothing_is_left() {
        let factory: EncoderFactory = Arc::new(|device| match device {
            Device::Cpu => Ok(Box::new(Fake { rows_max: 1, nap: Duration::ZERO })),
            Device::Cuda(_) => Err(LoadError::Load { device: *device, message: "it is on fire".into() }),
        });
        let error = WorkerPool::start(&[Device::Cpu, Device::Cuda(1)], factory).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("cuda:1: the model cannot be loaded: it is on fire"));
        let panics: EncoderFactory = Arc::new(|_| panic!("the test's panic: loading"));
        let error = WorkerPool::start(&[Device::Cpu], panics).err().map(|error| error.to_string());
        let expected =
            "cpu: the model cannot be loaded: the worker's thread panicked (its message is on standard error)";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[test]
    fn dropping_the_pool_finishes_what_is_queued() {
        let pool = pool(2, 10, 1);
        let answers: Vec<_> = (0..8).map(|id| pool.submit(batch(&[id + 50]))).collect();
        drop(pool);
        assert!(block_on(join_all(answers)).iter().all(Result::is_ok));
    }
}

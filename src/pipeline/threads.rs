//! Threads for work that may block for long: the source, delivery, and finishing the output.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::outcome::{Progress, RunError};
use crate::delivery::{Delivery, DeliveryError, EncodedWindow};
use crate::record::Settled;
use crate::source::{RecordSender, Source};

/// The error of a thread that panicked, or could not be started.
pub(super) fn thread_died(name: &str) -> RunError {
    RunError::Defect(format!("the {name} thread ended without a result"))
}

/// Runs the source on its own thread; the receiver gets its result.
pub(super) fn start_source(
    source: Box<dyn Source>,
    mut sender: RecordSender,
) -> oneshot::Receiver<Result<(), RunError>> {
    let (done, result) = oneshot::channel();
    let run = move || {
        let ended = source.run(&mut sender).map_err(RunError::from);
        // Dropping `sender` closes the channel of records, which tells the next stage that the source has ended. The
        // result is sent first, so that nobody mistakes a failure for the end of input.
        let _ = done.send(ended);
        drop(sender);
    };
    spawn_named("source", run);
    result
}

/// Runs `run` on its own thread; the receiver gets its result.
pub(super) fn on_thread<T: Send + 'static, E>(
    name: &str,
    run: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> oneshot::Receiver<Result<T, RunError>>
where
    RunError: From<E>,
{
    let (done, result) = oneshot::channel();
    spawn_named(name, move || drop(done.send(run().map_err(RunError::from))));
    result
}

/// Starts a thread, whose name debuggers and `top -H` show. If it cannot be started, the channel for its result is
/// closed.
fn spawn_named(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        tracing::error!(%error, name, "cannot start a thread");
    }
}

/// Delivery after its last window, not yet finished.
pub(super) struct Delivered {
    pub delivery: Delivery,
    /// Sums over all windows.
    pub settled: Settled,
    /// How many windows were settled.
    pub windows: u64,
}

/// Settles windows on their own thread until `encoded` ends; the receiver gets the result. `aborted` ends the pauses
/// between two tries to publish a window.
pub(super) fn start_delivery(
    mut delivery: Delivery,
    mut encoded: mpsc::Receiver<EncodedWindow>,
    progress: Arc<Progress>,
    aborted: CancellationToken,
) -> oneshot::Receiver<Result<Delivered, RunError>> {
    let runtime = Handle::current();
    let run = move || {
        let mut sum = Settled::default();
        let mut windows = 0;
        let mut pause = |wait: Duration| runtime.block_on(async { timeout(wait, aborted.cancelled()).await.is_err() });
        let mut settle_all = || -> Result<(), DeliveryError> {
            loop {
                let window = match delivery.maintain_every() {
                    None => encoded.blocking_recv(),
                    Some(every) => match runtime.block_on(async { timeout(every, encoded.recv()).await }) {
                        Ok(window) => window,
                        Err(_) => {
                            delivery.maintain()?;
                            continue;
                        }
                    },
                };
                let Some(window) = window else { return delivery.close() };
                let settled = delivery.settle(window, &mut pause)?;
                sum.add(&settled);
                windows += 1;
                progress.show(&sum);
            }
        };
        settle_all()?;
        Ok::<_, DeliveryError>(Delivered { delivery, settled: sum, windows })
    };
    on_thread("delivery", run)
}

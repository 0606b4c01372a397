//! The two stages that may block, source and delivery, on threads of their own, and what else must keep nobody waiting.

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

pub(super) fn gone(whose: &str) -> RunError {
    RunError::Defect(format!("{whose} thread ended without a result"))
}

/// Runs the source on a thread of its own; the receiver gets its result.
pub(super) fn start_source(
    source: Box<dyn Source>,
    mut outlet: RecordSender,
) -> oneshot::Receiver<Result<(), RunError>> {
    let (done, result) = oneshot::channel();
    let run = move || {
        let ended = source.run(&mut outlet).map_err(RunError::from);
        // Closing the channel of records is what tells the stages behind that the source has ended: the result is there
        // before that, so nobody takes a failure for an end.
        let _ = done.send(ended);
        drop(outlet);
    };
    spawn_named("source", run);
    result
}

/// Runs something that may block for long; the receiver gets its result.
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

/// A thread whose name shows in debuggers and in `top -H`. If the system has no thread left, whoever waits for its result
/// finds the sender gone.
fn spawn_named(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        tracing::error!(%error, name, "no thread can be started");
    }
}

pub(super) struct Deliveries {
    pub delivery: Delivery,
    pub settled: Settled,
    pub windows: u64,
}

/// Settles windows on a thread of its own until there are no more; the receiver gets the result.
pub(super) fn start_delivery(
    mut delivery: Delivery,
    mut encoded: mpsc::Receiver<EncodedWindow>,
    progress: Arc<Progress>,
    given_up: CancellationToken,
) -> oneshot::Receiver<Result<Deliveries, RunError>> {
    let runtime = Handle::current();
    let run = move || {
        let mut sum = Settled::default();
        let mut windows = 0;
        let mut pause = |wait: Duration| runtime.block_on(async { timeout(wait, given_up.cancelled()).await.is_err() });
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
        Ok::<_, DeliveryError>(Deliveries { delivery, settled: sum, windows })
    };
    on_thread("delivery", run)
}

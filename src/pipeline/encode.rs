//! The stage that encodes windows: rows to batches, batches to vectors, vectors to rows of the output.
//!
//! In: [`Window`]s. Out: [`EncodedWindow`]s, in the same order. Kept: several windows that are encoded at once. Fails
//! if the model fails. A row whose vector contains NaN or infinity is rejected.

use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use super::outcome::RunError;
use super::tuning::Tuning;
use crate::batch::{self, PaddingMode, TokenBatch};
use crate::delivery::EncodedWindow;
use crate::encode::worker::WorkerPool;
use crate::matrix::Matrix;
use crate::output::{Output, OutputSchema};
use crate::record::{DeadLetter, Rejection, Stage};
use crate::telemetry::events;
use crate::telemetry::traces::WindowTrace;
use crate::window::Window;

pub(super) struct EncodeStage {
    pub workers: Arc<WorkerPool>,
    pub output: Arc<OutputSchema>,
    pub padding: PaddingMode,
    pub tuning: watch::Receiver<Tuning>,
}

impl EncodeStage {
    /// Runs until `windows` ends, or until nobody receives encoded windows any more.
    pub(crate) async fn run(
        self,
        mut windows: mpsc::Receiver<Window>,
        windows_in_flight: usize,
        encoded: mpsc::Sender<EncodedWindow>,
    ) -> Result<(), RunError> {
        let windows = stream::poll_fn(|context| windows.poll_recv(context));
        let in_order = windows.map(|window| self.start(window)).buffered(windows_in_flight);
        let mut in_order = std::pin::pin!(in_order);
        while let Some(window) = in_order.next().await {
            if encoded.send(window?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Queues the window's batches immediately, so that devices take them in the order of windows, and returns the
    /// future that waits for them. Dropping it discards the batches that no device has started.
    fn start(&self, window: Window) -> impl Future<Output = Result<EncodedWindow, RunError>> + use<> {
        let rows: Vec<&[u32]> = window.block_rows().map(|(block, row)| block.tokens.ids(row)).collect();
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
        let (schema, dim) = (self.output.clone(), self.workers.dim());
        async move {
            let first_vectors = first_vectors(&lengths, &schema);
            let mut vectors = Matrix::zeros(first_vectors[window.rows()], dim);
            for (rows, encoded) in join_all(queued).await {
                let encoded = encoded?;
                // The vectors of a batch are in the order of its rows; here they return to source order.
                let targets = rows.into_iter().flat_map(|row| first_vectors[row]..first_vectors[row + 1]);
                for (index, target) in targets.enumerate() {
                    vectors.row_mut(target).copy_from_slice(encoded.row(index));
                }
            }
            let assembled = spawn_blocking(move || {
                let output = schema.assemble(&window, vectors).map_err(RunError::Defect)?;
                let rejected = dead_letters(&window, &output);
                Ok::<_, RunError>((window, output, rejected))
            });
            let (window, output, rejected) = assembled.await??;
            trace.encoded();
            Ok(EncodedWindow { window, output, rejected, trace })
        }
    }
}

/// The index of each row's first vector among all vectors of the window, and the number of all vectors at the end. A
/// row has one vector, or one per token.
fn first_vectors(lengths: &[usize], schema: &OutputSchema) -> Vec<usize> {
    let mut first_vectors = vec![0];
    first_vectors.extend(lengths.iter().scan(0, |end, length| {
        *end += schema.vectors_per_row(*length);
        Some(*end)
    }));
    first_vectors
}

/// The rejected records of the window, in source order: those of earlier stages, and those with an invalid vector.
fn dead_letters(window: &Window, output: &Output) -> Vec<DeadLetter> {
    let mut dead_letters = Vec::new();
    let mut first_row = 0;
    for block in &window.blocks {
        let rows = first_row..first_row + block.rows();
        let not_finite = output.left_out().iter().filter(|row| rows.contains(row));
        let not_finite = not_finite.map(|row| Rejection {
            record: block.row_records[row - first_row],
            stage: Stage::Encode,
            cause: "embedding contains NaN or infinity".into(),
        });
        let mut rejected: Vec<Rejection> = block.rejected.iter().cloned().chain(not_finite).collect();
        rejected.sort_by_key(|rejection| rejection.record);
        dead_letters.extend(rejected.into_iter().map(|Rejection { record, stage, cause }| DeadLetter {
            position: block.position(record),
            stage,
            cause,
            raw: block.body.raw(record),
            envelope: block.body.envelope(record).cloned(),
        }));
        first_row = rows.end;
    }
    dead_letters
}

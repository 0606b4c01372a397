//! The stage that extracts and tokenizes records and groups them into windows.
//!
//! In: [`Records`]. Out: [`Window`]s, in source order. Kept: the open window, and as many blocks as there are threads.
//! Fails only if the extractor panics.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::outcome::RunError;
use super::tuning::Tuning;
use crate::record::{Block, Records, Timestamps};
use crate::telemetry::events;
use crate::text::extract::Extractor;
use crate::window::{Window, WindowBuilder};

pub(super) struct PrepareStage {
    pub extractor: Arc<Extractor>,
    /// How many blocks are extracted at once.
    pub threads: usize,
    pub builder: WindowBuilder,
    /// Maximum tokens of a window, whatever `tuning` sets.
    pub window_tokens_max: usize,
    pub tuning: watch::Receiver<Tuning>,
    pub drain: CancellationToken,
}

impl PrepareStage {
    /// Runs until `records` ends and all windows are sent, or until nobody receives windows any more.
    pub(crate) async fn run(
        mut self,
        mut records: mpsc::Receiver<Records>,
        windows: mpsc::Sender<Window>,
    ) -> Result<(), RunError> {
        // Blocks being extracted, in source order.
        let mut blocks: VecDeque<JoinHandle<Block>> = VecDeque::new();
        let mut more_records = true;
        let (mut draining, mut can_reload) = (false, true);
        while more_records || !blocks.is_empty() {
            let deadline = self.builder.deadline();
            let can_receive = more_records && blocks.len() < self.threads;
            let window_too_old = async {
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
                    self.builder.push(block?, Instant::now());
                }
                received = records.recv(), if can_receive => match received {
                    Some(records) => blocks.push_back(extract(&self.extractor, records)),
                    None => more_records = false,
                },
                () = window_too_old => {}
                changed = self.tuning.changed(), if can_reload => match changed {
                    Ok(()) => {
                        let tuning = self.tuning.borrow_and_update();
                        self.builder.tune(tuning.window_tokens.min(self.window_tokens_max), tuning.linger);
                    }
                    Err(_) => can_reload = false,
                },
                // The source may be waiting for input, so this stage ends the records; those already sent are still
                // received.
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    records.close();
                }
            }
            if !send_ready(&mut self.builder, &windows).await {
                return Ok(());
            }
        }
        self.builder.finish();
        send_ready(&mut self.builder, &windows).await;
        Ok(())
    }
}

/// Extracts records on the blocking pool.
fn extract(extractor: &Arc<Extractor>, records: Records) -> JoinHandle<Block> {
    let extractor = extractor.clone();
    spawn_blocking(move || {
        let started = Instant::now();
        let mut block = extractor.block(records);
        events::block_prepared(started.elapsed());
        block.timestamps = Timestamps { extract_started_at: started, prepared_at: Instant::now(), ..block.timestamps };
        block
    })
}

/// Sends all closed windows; returns whether somebody still receives them.
async fn send_ready(builder: &mut WindowBuilder, windows: &mpsc::Sender<Window>) -> bool {
    while let Some(window) = builder.next_ready(Instant::now()) {
        if windows.send(window).await.is_err() {
            return false;
        }
    }
    true
}

//! What of a pipeline can change while it runs.

use std::time::Duration;

use tokio::sync::watch;

use crate::batch::BatchConfig;

/// The settings that stages look at anew: each window, each batch, each drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    pub window_tokens: usize,
    pub linger: Duration,
    pub batch: BatchConfig,
    pub drain_max: Duration,
}

impl Tuning {
    /// For a run that nothing reloads.
    pub fn fixed(self) -> watch::Receiver<Tuning> {
        watch::channel(self).1
    }
}

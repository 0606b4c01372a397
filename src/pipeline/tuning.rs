//! The settings that can change during a run.

use std::time::Duration;

use tokio::sync::watch;

use crate::batch::BatchConfig;

/// Settings that stages read again for each window, batch or drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// `window.tokens`.
    pub window_tokens: usize,
    /// `window.linger_ms`.
    pub linger: Duration,
    /// `batch`.
    pub batch: BatchConfig,
    /// `drain_ms`.
    pub drain_max: Duration,
}

impl Tuning {
    /// A receiver of settings that never change.
    pub fn fixed(self) -> watch::Receiver<Tuning> {
        watch::channel(self).1
    }
}

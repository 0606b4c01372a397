//! Progress bars on standard error, shown on a terminal only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::model::hub;
use crate::pipeline::Progress;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is redrawn: often enough to look smooth, rarely enough to cost nothing.
const TICK: Duration = Duration::from_millis(100);

/// The progress of loading the model, including downloads.
pub(crate) struct LoadBar(ProgressBar);

impl LoadBar {
    /// Shows the bar until [`LoadBar::finish`].
    pub(crate) fn start() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message("loading the model");
        bar.enable_steady_tick(TICK);
        LoadBar(bar)
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}

impl hub::DownloadProgress for LoadBar {
    fn update(&self, file: &str, bytes_done: u64, bytes_total: u64) {
        if self.0.length() != Some(bytes_total) {
            self.0.set_length(bytes_total);
            self.0.set_style(style("{bar:32} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}"));
        }
        self.0.set_message(file.to_string());
        self.0.set_position(bytes_done);
    }
}

/// The progress of a run, shown until dropped.
pub(crate) struct RunBar {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl RunBar {
    /// Redraws the bar from `progress`. Without `input_bytes`, the size of the input, it shows no percentage.
    pub(crate) fn start(progress: Arc<Progress>, input_bytes: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(input_bytes, ProgressDrawTarget::stderr());
        bar.set_style(style(match input_bytes {
            Some(_) => "{bar:32} {percent:>3} % {msg}, {eta} left",
            None => "{spinner} {msg}, {elapsed}",
        }));
        let drawn = bar.clone();
        let started = Instant::now();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                let seconds = started.elapsed().as_secs_f64();
                let rate = |count: u64| HumanCount((count as f64 / seconds) as u64);
                let (records, tokens) = (get(&progress.records), get(&progress.tokens));
                let rejected = match get(&progress.dead_lettered) {
                    0 => String::new(),
                    count => format!(", {} rejected", HumanCount(count)),
                };
                drawn.set_position(get(&progress.input_bytes_read));
                drawn.set_message(format!(
                    "{} records, {} records/s, {} tokens/s{rejected}",
                    HumanCount(records),
                    rate(records),
                    rate(tokens)
                ));
                drawn.tick();
            }
        });
        RunBar { bar, task }
    }
}

impl Drop for RunBar {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

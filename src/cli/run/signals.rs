//! SIGINT and SIGTERM: the first one drains the pipeline, the second one aborts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::pipeline::Stop;

/// SIGXFSZ, sent when a file would exceed the file size limit. The number is the same on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Waits for signals. The first one drains the pipeline, or aborts it if `abort_at_once`; the second one aborts it. While
/// `starting` is set there is nothing to finish, and loading cannot be interrupted, so the process exits at once. (The
/// default action would not end it as the first process of a container.)
pub(crate) async fn listen(stop: Stop, abort_at_once: bool, starting: Arc<AtomicBool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be caught; Ctrl-C stops the run at once");
        return;
    };
    // Caught so that it does not end the process: the write fails instead, with an error that is reported as usual.
    let _file_size_limit = signal(SignalKind::from_raw(SIGXFSZ));
    for count in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if starting.load(Ordering::SeqCst) {
            eprintln!("stopped while starting; nothing was embedded");
            std::process::exit(1);
        }
        if abort_at_once || count > 0 {
            stop.abort.cancel();
        } else {
            eprintln!("stopping: finishing records already read (press Ctrl-C again to stop at once)");
            stop.drain.cancel();
        }
    }
}

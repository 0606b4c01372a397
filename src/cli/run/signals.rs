//! SIGINT and SIGTERM: the first drains, the second aborts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::pipeline::Stop;

/// SIGXFSZ, the same number on Linux and macOS: a file would become larger than the system lets it.
const FILE_SIZE_LIMIT: i32 = 25;

/// The first signal drains, or aborts where only a whole output makes sense; the second aborts. While the run starts there
/// is nothing to finish, and what blocks cannot be told: the process ends. (As the first process of a container it would not,
/// were the signal left alone.)
pub async fn listen(stop: Stop, abort_at_once: bool, starting: Arc<AtomicBool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be caught here; Ctrl-C stops the run at once");
        return;
    };
    // Caught, it no longer ends the process: writing fails with an error that is told like any other.
    let _file_size_limit = signal(SignalKind::from_raw(FILE_SIZE_LIMIT));
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
            eprintln!("stopping: finishing what was read; once more stops at once");
            stop.drain.cancel();
        }
    }
}

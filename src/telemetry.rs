//! Logs: human on a terminal, JSON otherwise, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level`, or at what `filter` says (as in `debug` or `embedmill::source=trace`).
///
/// # Errors
/// If `filter` cannot be understood.
pub fn start(level: &str, filter: Option<&str>) -> Result<(), String> {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_new(filter.unwrap_or(level)).map_err(|error| format!("EMBEDMILL_LOG: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let started = if terminal { logs.compact().without_time().try_init() } else { logs.json().try_init() };
    started.map_err(|error| error.to_string())
}

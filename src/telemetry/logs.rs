//! Logs on standard error: for people on a terminal, otherwise as JSON lines.
//!
//! Repeated warnings and errors are rate-limited by call site: a burst of [`BURST`] lines, then one per [`REFILL_EVERY`]
//! with the number of suppressed repeats. All of them are counted, and the most recent ones are kept for `/status`.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as format, reload};

use super::names;

/// Lines that one call site may write at once.
const BURST: u32 = 5;
/// The time after which a call site that used up its burst may write one more line.
const REFILL_EVERY: Duration = Duration::from_secs(10);
/// Warnings and errors that are kept for `/status`.
const ENTRIES_MAX: usize = 20;
/// Bytes that are kept of one message.
const MESSAGE_BYTES_MAX: usize = 500;
/// Target of the logger's own notices ("repeated log lines suppressed"), which are neither limited nor counted.
const NOTICE_TARGET: &str = "embedmill::log";

static RECENT: Mutex<VecDeque<LogEntry>> = Mutex::new(VecDeque::new());

/// The filter in force once logging has started; [`set`] replaces it.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Refuses a filter that cannot be parsed, or whose misspelled level would be taken for a target and silence everything.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_known = |part: &str| LEVELS.contains(&part) || part.starts_with("embedmill") || part.contains('=');
    match EnvFilter::try_new(filter) {
        Ok(_) if filter.split(',').all(|part| is_known(part.trim())) => Ok(()),
        _ => Err(format!(
            "found {filter:?}; expected error, warn, info, debug, trace or off, or a list with targets such as \
             info,embedmill::source=debug"
        )),
    }
}

/// Replaces the filter from now on. An invalid one (see [`check`]) changes nothing.
pub(crate) fn set(filter: &str) {
    if let (Some(handle), Ok(filter)) = (FILTER.get(), EnvFilter::try_new(filter)) {
        // Fails only once the subscriber is dropped.
        let _ = handle.reload(filter);
    }
}

/// Starts logging by `filter` (such as `debug` or `embedmill::source=trace`), or at `level` if there is none.
///
/// # Errors
/// If `filter` cannot be parsed.
pub(crate) fn start(level: &str, filter: Option<&str>) -> Result<(), String> {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_new(filter.unwrap_or(level)).map_err(|error| format!("EMBEDMILL_LOG: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    FILTER.get_or_init(|| handle);
    let lines = format::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = if terminal { lines.compact().without_time().boxed() } else { lines.json().boxed() };
    // The layer added last is the first to decide whether an event is enabled.
    let logs = tracing_subscriber::registry().with(filter).with(lines).with(RateLimit::default());
    logs.try_init().map_err(|error| error.to_string())
}

/// A logged warning or error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// `WARN` or `ERROR`.
    pub level: String,
    /// The message and its fields in one line.
    pub message: String,
}

/// The most recent warnings and errors, the newest last.
pub(crate) fn recent() -> Vec<LogEntry> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

fn remember(entry: LogEntry) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.push_back(entry);
    if recent.len() > ENTRIES_MAX {
        recent.pop_front();
    }
}

/// The rate limit of one call site, a token bucket. Pure: the time is an argument.
#[derive(Debug, Clone, Copy)]
struct Quota {
    /// Lines that may still be written at once.
    left: u32,
    /// When the bucket was last full or refilled.
    refilled: Instant,
    /// Lines suppressed since the last one that was written.
    suppressed: u64,
}

impl Quota {
    fn new(now: Instant) -> Quota {
        Quota { left: BURST, refilled: now, suppressed: 0 }
    }

    /// Whether a line at `now` may be written.
    fn admit(&mut self, now: Instant) -> bool {
        let refill = (now.saturating_duration_since(self.refilled).as_secs() / REFILL_EVERY.as_secs())
            .min(u64::from(BURST)) as u32;
        if refill > 0 {
            self.left = (self.left + refill).min(BURST);
            self.refilled = now;
        }
        match self.left {
            0 => {
                self.suppressed += 1;
                false
            }
            left => {
                if left == BURST {
                    self.refilled = now;
                }
                self.left -= 1;
                true
            }
        }
    }
}

/// The layer that counts, remembers and limits warnings and errors.
#[derive(Default)]
struct RateLimit(Mutex<HashMap<Identifier, Quota>>);

impl RateLimit {
    /// Bounded by the number of call sites in the code.
    fn quotas(&self) -> MutexGuard<'_, HashMap<Identifier, Quota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the event is a warning or an error other than the logger's own notices.
fn is_limited(event: &Event<'_>) -> bool {
    *event.metadata().level() <= Level::WARN && event.metadata().target() != NOTICE_TARGET
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !is_limited(event) {
            return true;
        }
        let level = event.metadata().level();
        names::LOG_EVENTS.add(1, &[if *level == Level::ERROR { "error" } else { "warn" }]);
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        remember(LogEntry { unix_seconds, level: level.to_string(), message: one_line(event) });
        let now = Instant::now();
        self.quotas().entry(event.metadata().callsite()).or_insert_with(|| Quota::new(now)).admit(now)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !is_limited(event) {
            return;
        }
        let suppressed =
            self.quotas().get_mut(&event.metadata().callsite()).map(|quota| std::mem::take(&mut quota.suppressed));
        if let Some(suppressed) = suppressed.filter(|count| *count > 0) {
            let module = event.metadata().target();
            tracing::warn!(target: NOTICE_TARGET, suppressed, module, "repeated log lines suppressed");
        }
    }
}

/// An event in one line: its message, followed by its fields.
fn one_line(event: &Event<'_>) -> String {
    struct Line(String, String);
    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            // Writing to a string cannot fail.
            let _ = match field.name() {
                "message" => write!(self.0, "{value:?}"),
                name => write!(self.1, " {name}={value:?}"),
            };
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.record_debug(field, &format_args!("{value}"));
        }
    }
    let mut line = Line(String::new(), String::new());
    event.record(&mut line);
    let mut text = line.0 + &line.1;
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_call_site_writes_a_burst_and_then_one_line_per_interval() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let written = (0..100).filter(|_| quota.admit(at(0))).count();
        assert_eq!((written, quota.suppressed), (BURST as usize, 100 - u64::from(BURST)));
        assert_eq!((1..100).filter(|second| quota.admit(at(*second))).count(), 9);
        // After a long pause a full burst is allowed again, and no more.
        assert_eq!((0..100).filter(|_| quota.admit(at(100_000))).count(), BURST as usize);
    }

    #[test]
    fn a_filter_that_would_silence_everything_is_refused() {
        for good in ["debug", "off", "info,embedmill::source=debug", "warn,embedmill=trace"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for wrong in ["", "verbose", "info,kafak", "embedmill=loud"] {
            assert!(check(wrong).is_err_and(|error| error.contains("expected error, warn")), "{wrong}");
        }
    }

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl io::Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn repeated_warnings_are_suppressed_and_the_last_are_kept() {
        let written = CapturedLog::default();
        let into = written.clone();
        let lines = format::layer().with_writer(move || into.clone()).with_ansi(false).without_time();
        let limit = RateLimit::default();
        let warn = |number: usize| tracing::warn!(number, cause = "the cause", "it failed");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines).with(limit), || {
            (0..50).for_each(warn);
            tracing::info!("not limited");
            tracing::warn!("another call site");
        });
        let text = String::from_utf8(written.0.lock().expect("nobody panics").clone()).expect("text");
        assert_eq!(text.matches("it failed").count(), BURST as usize, "{text}");
        assert!(text.contains("not limited") && text.contains("another call site"), "{text}");
        let recent = recent();
        assert!(recent.len() <= ENTRIES_MAX);
        assert!(recent.iter().any(|entry| entry.message == "it failed number=49 cause=the cause"), "{recent:?}");
    }
}

//! Logs: human on a terminal, JSON otherwise, always on standard error.
//!
//! A warning or an error that repeats is written [`BURST`] times, then once in [`EVERY`], with how many were left out.
//! Places in the code are told apart, texts are not. All of them are counted, and the last are kept for `/status`.

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

/// Lines of one place that are written at once.
const BURST: u32 = 5;
/// After them, a line each.
const EVERY: Duration = Duration::from_secs(10);
/// Warnings and errors that are kept.
const KEPT_MAX: usize = 20;
/// What is kept of one.
const TEXT_MAX: usize = 500;
/// Lines about lines: neither limited nor counted.
const NOTICE: &str = "embedmill::log";

static LAST: Mutex<VecDeque<Noted>> = Mutex::new(VecDeque::new());

/// What is logged, once logging has begun; it can change.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Refuses a filter that cannot be understood, or that would silence everything by a slip of the keyboard.
///
/// # Errors
/// What was expected.
pub fn check(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_known = |part: &str| LEVELS.contains(&part) || part.starts_with("embedmill") || part.contains('=');
    match EnvFilter::try_new(filter) {
        Ok(_) if filter.split(',').all(|part| is_known(part.trim())) => Ok(()),
        _ => Err(format!(
            "expected error, warn, info, debug, trace or off, or places as in info,embedmill::source=debug; found `{filter}`"
        )),
    }
}

/// Logs what `filter` says from now on; one that [`check`] refuses changes nothing.
pub fn set(filter: &str) {
    if let (Some(handle), Ok(filter)) = (FILTER.get(), EnvFilter::try_new(filter)) {
        // It fails only if logging is over.
        let _ = handle.reload(filter);
    }
}

/// Starts logging at `level`, or at what `filter` says (as in `debug` or `embedmill::source=trace`).
///
/// # Errors
/// If `filter` cannot be understood.
pub fn start(level: &str, filter: Option<&str>) -> Result<(), String> {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_new(filter.unwrap_or(level)).map_err(|error| format!("EMBEDMILL_LOG: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    FILTER.get_or_init(|| handle);
    let lines = format::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = if terminal { lines.compact().without_time().boxed() } else { lines.json().boxed() };
    // The last layer is asked first whether an event is wanted.
    let logs = tracing_subscriber::registry().with(filter).with(lines).with(Limit::default());
    logs.try_init().map_err(|error| error.to_string())
}

/// A warning or an error of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Seconds since 1970.
    pub at: u64,
    /// `WARN` or `ERROR`.
    pub level: String,
    pub text: String,
}

/// The last warnings and errors, the newest last.
pub fn last() -> Vec<Noted> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

fn keep(noted: Noted) {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.push_back(noted);
    if last.len() > KEPT_MAX {
        last.pop_front();
    }
}

/// What one place has written lately. Pure: the clock is an argument.
#[derive(Debug, Clone, Copy)]
struct Quota {
    /// Lines that may be written at once still.
    left: u32,
    /// Since when they come back.
    since: Instant,
    left_out: u64,
}

impl Quota {
    fn new(now: Instant) -> Quota {
        Quota { left: BURST, since: now, left_out: 0 }
    }

    /// Whether a line at `now` is written.
    fn admit(&mut self, now: Instant) -> bool {
        let back = (now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs()).min(u64::from(BURST)) as u32;
        if back > 0 {
            self.left = (self.left + back).min(BURST);
            self.since = now;
        }
        match self.left {
            0 => {
                self.left_out += 1;
                false
            }
            left => {
                if left == BURST {
                    self.since = now;
                }
                self.left -= 1;
                true
            }
        }
    }
}

/// The layer that counts, keeps and limits.
#[derive(Default)]
struct Limit(Mutex<HashMap<Identifier, Quota>>);

impl Limit {
    /// There are as many places as there are log lines in the code.
    fn quotas(&self) -> MutexGuard<'_, HashMap<Identifier, Quota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this layer looks at: warnings and errors of the code's own places.
fn is_limited(event: &Event<'_>) -> bool {
    *event.metadata().level() <= Level::WARN && event.metadata().target() != NOTICE
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !is_limited(event) {
            return true;
        }
        let level = event.metadata().level();
        names::LOG_EVENTS.add(1, &[if *level == Level::ERROR { "error" } else { "warn" }]);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        keep(Noted { at, level: level.to_string(), text: text(event) });
        let now = Instant::now();
        self.quotas().entry(event.metadata().callsite()).or_insert_with(|| Quota::new(now)).admit(now)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !is_limited(event) {
            return;
        }
        let left_out =
            self.quotas().get_mut(&event.metadata().callsite()).map(|quota| std::mem::take(&mut quota.left_out));
        if let Some(left_out) = left_out.filter(|count| *count > 0) {
            let place = event.metadata().target();
            tracing::warn!(target: NOTICE, left_out, place, "lines like the one before were left out");
        }
    }
}

/// An event in one line: its message, and its fields after it.
fn text(event: &Event<'_>) -> String {
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
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
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
    fn a_place_writes_a_burst_and_then_now_and_then() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let written = (0..100).filter(|_| quota.admit(at(0))).count();
        assert_eq!((written, quota.left_out), (BURST as usize, 100 - u64::from(BURST)));
        assert_eq!((1..100).filter(|second| quota.admit(at(*second))).count(), 9);
        // After a long silence a burst again, and no more.
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
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn repeated_warnings_are_left_out_and_the_last_are_kept() {
        let written = Written::default();
        let into = written.clone();
        let lines = format::layer().with_writer(move || into.clone()).with_ansi(false).without_time();
        let limit = Limit::default();
        let warn = |number: usize| tracing::warn!(number, cause = "the cause", "it failed");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines).with(limit), || {
            (0..50).for_each(warn);
            tracing::info!("not limited");
            tracing::warn!("another place");
        });
        let text = String::from_utf8(written.0.lock().expect("nobody panics").clone()).expect("text");
        assert_eq!(text.matches("it failed").count(), BURST as usize, "{text}");
        assert!(text.contains("not limited") && text.contains("another place"), "{text}");
        let last = last();
        assert!(last.len() <= KEPT_MAX);
        assert!(last.iter().any(|noted| noted.text == "it failed number=49 cause=the cause"), "{last:?}");
    }
}

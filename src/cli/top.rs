//! `top`: shows the `/status` of a run, as a live view in the terminal or once as text.
//!
//! In:    the address in `observe.listen` of the run. Out: a screen, or with `--once` a page of text.
//! Fails: with `--once`, if the run does not respond. The live view shows the error instead and keeps asking.

use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::telemetry::status::{FORMAT_VERSION, Status};
use anyhow::{Context, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};

use super::terminal::print;
use super::top_view::{self, View};

/// How long a response may take.
const RESPONSE_MAX: Duration = Duration::from_secs(3);
/// The maximum size of a response. A status has a few kilobytes; with a thousand partitions, about 100.
const STATUS_BYTES_MAX: u64 = 16 << 20;
/// Width in columns of the page that `--once` prints.
const PAGE_WIDTH: u16 = 110;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill run pipeline.yaml --set observe.listen=127.0.0.1:9464 &
  embedmill top
  embedmill top http://embedmill-0:9464 --once

q, Esc or Ctrl-C closes the view; the run is not affected.")]
pub(crate) struct TopArgs {
    /// Address of the run (its observe.listen), as a URL or host:port
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9464")]
    url: String,
    /// Print one page and exit; the default if standard output is not a terminal
    #[arg(long)]
    once: bool,
    /// Seconds between updates, from 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number from 0.1 to 3600".into()),
    }
}

/// Shows the status once, or until a key closes the view.
pub(crate) fn top(args: TopArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.url);
    if args.once || !std::io::stdout().is_terminal() {
        let status = client.status()?;
        let view = View { url: &client.base, status: Some(&status), error: None, now: unix_seconds() };
        return print(&top_view::page(&view, PAGE_WIDTH));
    }
    let mut terminal =
        ratatui::try_init().context("standard output: cannot be used as a terminal (--once prints a page instead)")?;
    let outcome = watch(&mut terminal, &client, Duration::from_secs_f64(args.interval));
    ratatui::restore();
    outcome
}

/// Requests and draws the status until a key closes the view.
fn watch(terminal: &mut DefaultTerminal, client: &Client, interval: Duration) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        let requested = Instant::now();
        let error = match client.status() {
            Ok(status) => {
                last = Some(status);
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        loop {
            let (status, error) = (last.as_ref(), error.as_deref());
            let view = View { url: &client.base, status, error, now: unix_seconds() };
            terminal.draw(|frame| top_view::draw(frame, &view))?;
            let left = interval.saturating_sub(requested.elapsed());
            // Polls at least once per request, even if the request took longer than the interval.
            if !event::poll(left)? {
                break;
            }
            if is_quit(&event::read()?) {
                return Ok(());
            }
        }
    }
}

/// Whether the key closes the view.
fn is_quit(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, .. }) = event else { return false };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Requests the status of one run.
struct Client {
    /// The URL without a path.
    base: String,
    agent: ureq::Agent,
}

impl Client {
    fn new(url: &str) -> Client {
        let url = url.trim_end_matches('/').trim_end_matches("/status");
        let base = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        // Without a proxy, because a run is usually on the same machine or network.
        let config = ureq::Agent::config_builder().timeout_global(Some(RESPONSE_MAX)).proxy(None);
        Client { base, agent: config.http_status_as_error(false).build().into() }
    }

    fn status(&self) -> anyhow::Result<Status> {
        let url = format!("{}/status", self.base);
        let hint = "expected a run with `observe: { listen: … }`";
        let mut response = self.agent.get(&url).call().with_context(|| format!("{url}: no response; {hint}"))?;
        if response.status() != 200 {
            bail!("{url}: found HTTP status {}; {hint}", response.status());
        }
        let body = response.body_mut().with_config().limit(STATUS_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("{url}: incomplete response"))?;
        read_status(&body).with_context(|| url)
    }
}

/// Reads the status of every version up to this one's.
fn read_status(body: &str) -> anyhow::Result<Status> {
    let json: serde_json::Value = serde_json::from_str(body).context("invalid JSON; expected the status of a run")?;
    match json.get("format_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version > u64::from(FORMAT_VERSION) => bail!(
            "found status version {version}; expected at most {FORMAT_VERSION} (the run is of a later embedmill: use its `top`)"
        ),
        Some(_) => serde_json::from_value(json).context("unknown response; expected the status of a run"),
        None => bail!("unknown response; expected the status of a run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by this version; later ones read it.
    const V1: &str = include_str!("../../tests/data/v1/status.json");

    #[test]
    fn status_of_version_1_is_read_and_a_later_one_is_refused() {
        let status = read_status(V1).expect("it is read");
        assert_eq!((status.format_version, status.counters.records_read), (1, 100));
        let later = V1.replacen("\"format_version\": 1", "\"format_version\": 2, \"new\": true", 1);
        let error = read_status(&later).expect_err("it is refused").to_string();
        assert!(error.starts_with("found status version 2; expected at most 1"), "{error}");
        let more = V1.replacen("\"format_version\": 1", "\"format_version\": 1, \"new\": true", 1);
        assert!(read_status(&more).is_ok(), "a field that a reader does not know is ignored");
        for other in ["", "{}", "[1]"] {
            assert!(read_status(other).is_err(), "{other}");
        }
    }
}

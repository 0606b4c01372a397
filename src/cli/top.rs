//! `top`: a running pipeline as its `/status` tells, drawn again and again, or once.
//!
//! In:    the address that `observe.listen` of the run names. Out: a screen, or with `--once` a page of text.
//! Fails: with `--once`, if nothing answers; live, it says so on the screen and asks again.

use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::telemetry::status::Status;
use anyhow::{Context, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};

use super::top_view::{self, Shown};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// A status is some kilobytes; with a thousand partitions, 100.
const STATUS_BYTES_MAX: u64 = 16 << 20;
/// Columns of the page that `--once` prints.
const PAGE_WIDTH: u16 = 110;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill run pipeline.yaml --set observe.listen=127.0.0.1:9464 &
  embedmill top
  embedmill top http://embedmill-0:9464 --once

q, Esc or Ctrl-C ends it; the run goes on.")]
pub struct TopArgs {
    /// Where the run is observed: its observe.listen, as a URL or host:port
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9464")]
    url: String,
    /// Print one page and end; the same where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0.1 to 3600".into()),
    }
}

pub fn top(args: TopArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.url);
    if args.once || !std::io::stdout().is_terminal() {
        let status = client.status()?;
        let shown = Shown { url: &client.base, status: Some(&status), trouble: None, now: unix_seconds() };
        return super::print(&top_view::page(&shown, PAGE_WIDTH));
    }
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on; --once prints a page")?;
    let outcome = watch(&mut terminal, &client, Duration::from_secs_f64(args.interval));
    ratatui::restore();
    outcome
}

/// Asks and draws until a key ends it.
fn watch(terminal: &mut DefaultTerminal, client: &Client, interval: Duration) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        let asked = Instant::now();
        let trouble = match client.status() {
            Ok(status) => {
                last = Some(status);
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        loop {
            let (status, trouble) = (last.as_ref(), trouble.as_deref());
            let shown = Shown { url: &client.base, status, trouble, now: unix_seconds() };
            terminal.draw(|frame| top_view::draw(frame, &shown))?;
            let left = interval.saturating_sub(asked.elapsed());
            // Also the first time round: a key is looked for even where the interval is over.
            if !event::poll(left)? {
                break;
            }
            if ends(&event::read()?) {
                return Ok(());
            }
        }
    }
}

fn ends(event: &Event) -> bool {
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

/// Asks one run.
struct Client {
    /// Without a path.
    base: String,
    agent: ureq::Agent,
}

impl Client {
    fn new(url: &str) -> Client {
        let url = url.trim_end_matches('/').trim_end_matches("/status");
        let base = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        // No proxy: what is asked is near.
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).proxy(None);
        Client { base, agent: config.http_status_as_error(false).build().into() }
    }

    fn status(&self) -> anyhow::Result<Status> {
        let url = format!("{}/status", self.base);
        let hint = "is a run with `observe: { listen: … }` there?";
        let mut response = self.agent.get(&url).call().with_context(|| format!("{url} does not answer; {hint}"))?;
        if response.status() != 200 {
            bail!("{url} answers {}; {hint}", response.status());
        }
        let body = response.body_mut().with_config().limit(STATUS_BYTES_MAX).read_to_string();
        let body = body.with_context(|| format!("{url} breaks off"))?;
        serde_json::from_str(&body).with_context(|| format!("{url} is no embedmill of this version"))
    }
}

//! Draws the view of `top`: a status on a screen of any size, or as a page of text. Pure: the time is an argument.

use crate::telemetry::live::{PartitionProgress, Phase};
use crate::telemetry::logs::LogEntry;
use crate::telemetry::status::{DeviceStatus, Status};
use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Widget};

/// The content of the view.
pub(crate) struct View<'a> {
    /// The address of the run.
    pub url: &'a str,
    /// The most recent status; `None` before the first.
    pub status: Option<&'a Status>,
    /// Why the last request failed; `None` if it succeeded.
    pub error: Option<&'a str>,
    /// The current time in seconds since 1970.
    pub now: u64,
}

/// Log entries that are shown; `/status` has more.
const ERRORS_MAX: usize = 6;
/// Partitions on a page of text; a screen shows as many as fit.
const PAGE_PARTITIONS_MAX: usize = 40;
/// Width of a bar in cells.
const BAR_WIDTH: usize = 20;

/// Draws the view on the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let area = frame.area();
    render(view, area, frame.buffer_mut());
}

/// The view as text, with as many lines as it needs.
pub(crate) fn page(view: &View<'_>, width: u16) -> String {
    let height = view.status.map_or(3, |status| {
        let partitions = status.positions.len().min(PAGE_PARTITIONS_MAX);
        // Each block has a border of two lines; tables have a header line too. Empty blocks are left out.
        let block_height = |rows: usize, more: usize| if rows == 0 { 0 } else { rows + more };
        let errors = block_height(status.errors.len().min(ERRORS_MAX), 2);
        // Two header lines, and the block of counters with five.
        2 + 5 + block_height(status.devices.len(), 3) + block_height(partitions, 3) + errors
    });
    let area = Rect::new(0, 0, width, u16::try_from(height).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    render(view, area, &mut buffer);
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_string();
    let lines: Vec<String> = (0..area.height).map(line).collect();
    lines.join("\n").trim_end().to_string()
}

fn render(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    let Some(status) = view.status else {
        return Paragraph::new(header(view)).render(area, buffer);
    };
    let rows = |count: usize, header: usize| match count {
        0 => Constraint::Length(0),
        count => Constraint::Length((count + 2 + header) as u16),
    };
    let layout = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(5),
        rows(status.devices.len(), 1),
        Constraint::Fill(1),
        rows(status.errors.len().min(ERRORS_MAX), 0),
    ]);
    let [top, records, devices, partitions, errors] = layout.areas(area);
    Paragraph::new(header(view)).render(top, buffer);
    Paragraph::new(counts(status)).block(Block::bordered().title(" records ")).render(records, buffer);
    if !status.devices.is_empty() {
        device_table(&status.devices).render(devices, buffer);
    }
    if !status.positions.is_empty() {
        partition_table(&status.positions).render(partitions, buffer);
    }
    if !status.errors.is_empty() {
        let block = Block::bordered().title(" last warnings and errors ");
        Paragraph::new(last_errors(status, view.now)).block(block).render(errors, buffer);
    }
}

/// The header: version, address, phase and readiness in the first line, model or error in the second.
fn header<'a>(view: &View<'a>) -> Vec<Line<'a>> {
    let mut first = vec![Span::from("embedmill").bold()];
    let mut second = Line::default();
    if let Some(status) = view.status {
        let phase = match status.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
        };
        let up = HumanDuration(std::time::Duration::from_secs_f64(status.uptime_seconds.max(0.0)));
        first.push(format!(" {} at {}, {phase} for {up}, ", status.version, view.url).into());
        first.push(match &status.not_ready {
            None => "ready".green(),
            Some(why) => format!("not ready: {why}").yellow(),
        });
        second = Line::from(status.model.clone().unwrap_or_default()).dim();
    } else {
        first.push(format!(" at {}", view.url).into());
    }
    match view.error {
        None => vec![Line::from(first), second],
        Some(error) => vec![Line::from(first), Line::from(error.to_string()).red()],
    }
}

fn counts(status: &Status) -> Vec<Line<'static>> {
    let (counters, rates, in_flight) = (&status.counters, &status.rates, &status.in_flight);
    let part = |name: &'static str, count: u64| vec![Span::from(HumanCount(count).to_string()).bold(), name.into()];
    let warning = |name: &'static str, count: u64| {
        let color = if count == 0 { Color::Reset } else { Color::Yellow };
        vec![Span::styled(HumanCount(count).to_string(), Style::new().fg(color).bold()), name.into()]
    };
    let rate = |name: &'static str, rate: f64| part(name, rate.round().max(0.0) as u64);
    let used = in_flight.bytes as f64 / in_flight.bytes_max.max(1) as f64;
    [
        vec![
            part(" read, ", counters.records_read),
            part(" published, ", counters.records_published),
            warning(" dead letters, ", counters.records_dead_lettered),
            part(" deletes, ", counters.records_deleted),
            part(" abandoned", counters.records_abandoned),
        ],
        vec![
            rate(" records/s, ", rates.records_per_second),
            rate(" rows/s, ", rates.rows_per_second),
            rate(" tokens/s; ", rates.tokens_per_second),
            warning(" rows truncated", counters.truncated_rows),
        ],
        vec![
            part(" windows settled, ", counters.windows_settled),
            part(" in flight, ", in_flight.windows),
            part(" batches queued; memory ", in_flight.batches_queued),
            vec![
                bar(used),
                format!(" {} of {}", BinaryBytes(in_flight.bytes), BinaryBytes(in_flight.bytes_max)).into(),
            ],
        ],
    ]
    .into_iter()
    .map(|parts| Line::from(parts.concat()))
    .collect()
}

/// A horizontal bar of [`BAR_WIDTH`] cells, filled to `fraction`.
fn bar(fraction: f64) -> Span<'static> {
    let full = (fraction.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    Span::from(format!("{}{}", "█".repeat(full), "░".repeat(BAR_WIDTH - full)))
}

fn table<'a>(title: String, columns: &[(&'static str, u16)], rows: Vec<Row<'a>>) -> Table<'a> {
    let header = Row::new(columns.iter().map(|(name, _)| *name)).dim();
    let widths = columns.iter().map(|(_, width)| Constraint::Min(*width));
    Table::new(rows, widths).header(header).block(Block::bordered().title(format!(" {title} ")))
}

fn device_table(devices: &[DeviceStatus]) -> Table<'static> {
    let row = |device: &DeviceStatus| {
        let busy = Line::from(vec![bar(device.busy_ratio), format!(" {:>3.0} %", 100.0 * device.busy_ratio).into()]);
        let count = |count: u64| Line::from(HumanCount(count).to_string());
        let splits = count(device.splits);
        Row::new([
            Line::from(device.device.clone()),
            busy,
            count(device.batches),
            count(device.rows),
            count(device.tokens),
            if device.splits > 0 { splits.yellow() } else { splits },
        ])
    };
    let columns = [("device", 10), ("encoding", 28), ("batches", 12), ("rows", 14), ("tokens", 16), ("splits", 8)];
    table("devices".into(), &columns, devices.iter().map(row).collect())
}

/// The partitions, with the largest lag first.
fn partition_table(positions: &[PartitionProgress]) -> Table<'static> {
    let mut sorted: Vec<&PartitionProgress> = positions.iter().collect();
    sorted.sort_by_key(|progress| std::cmp::Reverse(progress.lag()));
    let lags: Vec<u64> = sorted.iter().filter_map(|progress| progress.lag()).collect();
    let mut title = format!("{} partition{}", sorted.len(), if sorted.len() == 1 { "" } else { "s" });
    if !lags.is_empty() {
        title += &format!(", lag {} records", HumanCount(lags.iter().sum()));
    }
    let count = |count: Option<u64>| count.map_or("-".into(), |count| HumanCount(count).to_string());
    let row = |progress: &PartitionProgress| {
        let PartitionProgress { partition, next_offset, end_offset } = progress;
        Row::new([partition.clone(), count(*next_offset), count(*end_offset), count(progress.lag())])
    };
    let columns = [("partition", 40), ("next offset", 16), ("end offset", 16), ("lag", 16)];
    table(title, &columns, sorted.into_iter().map(row).collect())
}

fn last_errors(status: &Status, now: u64) -> Vec<Line<'_>> {
    let errors = status.errors.iter().rev().take(ERRORS_MAX);
    let line = |entry: &LogEntry| {
        let ago = HumanDuration(std::time::Duration::from_secs(now.saturating_sub(entry.unix_seconds)));
        let level = if entry.level == "ERROR" { "error".red() } else { "warning".yellow() };
        let text = format!(", {ago} ago: {}", entry.message);
        Line::from(vec![level, text.into()])
    };
    errors.map(line).collect()
}

#[cfg(test)]
mod tests {
    use crate::telemetry::status::{Counters, InFlight, Rates};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn status() -> Status {
        let progress = |number: u32, next: u64, end: u64| PartitionProgress {
            partition: format!("documents[{number}]"),
            next_offset: Some(next),
            end_offset: Some(end),
        };
        let device = |device: &str, busy: f64| DeviceStatus {
            device: device.into(),
            busy_ratio: busy,
            batches: 12_345,
            rows: 1_234_567,
            tokens: 123_456_789,
            splits: 0,
        };
        Status {
            format_version: 1,
            version: "1.2.3".into(),
            phase: Phase::Running,
            not_ready: None,
            uptime_seconds: 7_265.0,
            plan: Vec::new(),
            model: Some("all-MiniLM-L6-v2@c9745ed1d9f2, bert, 6 layers, 384 dims".into()),
            counters: Counters {
                records_read: 1_240_000,
                records_published: 1_234_567,
                records_dead_lettered: 33,
                records_deleted: 400,
                records_abandoned: 0,
                rows: 1_234_567,
                tokens: 123_456_789,
                truncated_rows: 12,
                truncated_tokens: 3_456,
                windows_settled: 2_345,
            },
            rates: Rates { records_per_second: 812.4, rows_per_second: 810.0, tokens_per_second: 98_765.4 },
            in_flight: InFlight { windows: 5, batches_queued: 17, bytes: 12 << 20, bytes_max: 40 << 20 },
            devices: vec![device("cuda:0", 0.97), device("cuda:1", 0.42)],
            positions: vec![progress(0, 500_000, 500_120), progress(1, 400_000, 405_000)],
            errors: vec![LogEntry {
                unix_seconds: 1_000,
                level: "WARN".into(),
                message: "publishing failed; trying again".into(),
            }],
        }
    }

    #[test]
    fn a_page_has_everything() {
        let status = status();
        let view = View { url: "http://127.0.0.1:9464", status: Some(&status), error: None, now: 1_090 };
        insta::assert_snapshot!("page", page(&view, 110));
        let starting = Status {
            phase: Phase::Starting,
            not_ready: Some("starting: loading the model".into()),
            model: None,
            devices: Vec::new(),
            positions: Vec::new(),
            errors: Vec::new(),
            ..status
        };
        let view = View { url: "http://127.0.0.1:9464", status: Some(&starting), error: None, now: 0 };
        insta::assert_snapshot!("page-starting", page(&view, 110));
    }

    #[test]
    fn it_draws_on_screens_of_any_size() {
        let status = status();
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
            for status in [None, Some(&status)] {
                let view = View { url: "http://x", status, error: Some("no response"), now: 0 };
                terminal.draw(|frame| draw(frame, &view)).expect("it draws");
            }
        }
    }
}

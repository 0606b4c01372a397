//! What `top` draws: a status on a screen of any size, or as a page of text. Pure: the time is an argument.

use crate::telemetry::live::{PartitionProgress, Phase};
use crate::telemetry::status::{DeviceStatus, Status};
use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Widget};

/// What is on the screen.
pub struct Shown<'a> {
    pub url: &'a str,
    /// The last that came; none before the first.
    pub status: Option<&'a Status>,
    /// Why none came now.
    pub trouble: Option<&'a str>,
    /// Seconds since 1970.
    pub now: u64,
}

/// Errors shown; `/status` has more.
const ERRORS_MAX: usize = 6;
/// Partitions on a page; a screen has as many as fit.
const PAGE_PARTITIONS_MAX: usize = 40;
/// Cells of a bar.
const BAR: usize = 20;

/// Draws it on the whole screen.
pub fn draw(frame: &mut Frame<'_>, shown: &Shown<'_>) {
    let area = frame.area();
    render(shown, area, frame.buffer_mut());
}

/// The same as text, as high as it needs to be.
pub fn page(shown: &Shown<'_>, width: u16) -> String {
    let height = shown.status.map_or(3, |status| {
        let partitions = status.positions.len().min(PAGE_PARTITIONS_MAX);
        // A border around each; the tables have a header too.
        let of_table = |rows: usize, more: usize| if rows == 0 { 0 } else { rows + more };
        let errors = of_table(status.errors.len().min(ERRORS_MAX), 2);
        // Two lines on top, and five of records.
        2 + 5 + of_table(status.devices.len(), 3) + of_table(partitions, 3) + errors
    });
    let area = Rect::new(0, 0, width, u16::try_from(height).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    render(shown, area, &mut buffer);
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_string();
    let lines: Vec<String> = (0..area.height).map(line).collect();
    lines.join("\n").trim_end().to_string()
}

fn render(shown: &Shown<'_>, area: Rect, buffer: &mut Buffer) {
    let Some(status) = shown.status else {
        return Paragraph::new(head(shown)).render(area, buffer);
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
    Paragraph::new(head(shown)).render(top, buffer);
    Paragraph::new(counts(status)).block(Block::bordered().title(" records ")).render(records, buffer);
    if !status.devices.is_empty() {
        device_table(&status.devices).render(devices, buffer);
    }
    if !status.positions.is_empty() {
        partition_table(&status.positions).render(partitions, buffer);
    }
    if !status.errors.is_empty() {
        let block = Block::bordered().title(" last warnings and errors ");
        Paragraph::new(last_errors(status, shown.now)).block(block).render(errors, buffer);
    }
}

/// Who it is, and how it is.
fn head<'a>(shown: &Shown<'a>) -> Vec<Line<'a>> {
    let mut first = vec![Span::from("embedmill").bold()];
    let mut second = Line::default();
    if let Some(status) = shown.status {
        let phase = match status.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
        };
        let up = HumanDuration(std::time::Duration::from_secs_f64(status.uptime_seconds.max(0.0)));
        first.push(format!(" {} at {}, {phase} for {up}, ", status.version, shown.url).into());
        first.push(match &status.not_ready {
            None => "ready".green(),
            Some(why) => format!("not ready: {why}").yellow(),
        });
        second = Line::from(status.model.clone().unwrap_or_default()).dim();
    } else {
        first.push(format!(" at {}", shown.url).into());
    }
    match shown.trouble {
        None => vec![Line::from(first), second],
        Some(trouble) => vec![Line::from(first), Line::from(trouble.to_string()).red()],
    }
}

fn counts(status: &Status) -> Vec<Line<'static>> {
    let (counters, rates, in_flight) = (&status.counters, &status.rates, &status.in_flight);
    let part = |name: &'static str, count: u64| vec![Span::from(HumanCount(count).to_string()).bold(), name.into()];
    let alarming = |name: &'static str, count: u64| {
        let color = if count == 0 { Color::Reset } else { Color::Yellow };
        vec![Span::styled(HumanCount(count).to_string(), Style::new().fg(color).bold()), name.into()]
    };
    let rate = |name: &'static str, rate: f64| part(name, rate.round().max(0.0) as u64);
    let used = in_flight.bytes as f64 / in_flight.bytes_max.max(1) as f64;
    [
        vec![
            part(" read, ", counters.records_read),
            part(" published, ", counters.records_published),
            alarming(" dead letters, ", counters.records_dead_lettered),
            part(" deletes, ", counters.records_deleted),
            part(" given up", counters.records_abandoned),
        ],
        vec![
            rate(" records/s, ", rates.records),
            rate(" rows/s, ", rates.rows),
            rate(" tokens/s; ", rates.tokens),
            alarming(" rows truncated", counters.truncated_rows),
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

fn bar(share: f64) -> Span<'static> {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    Span::from(format!("{}{}", "█".repeat(full), "░".repeat(BAR - full)))
}

fn table<'a>(title: String, columns: &[(&'static str, u16)], rows: Vec<Row<'a>>) -> Table<'a> {
    let header = Row::new(columns.iter().map(|(name, _)| *name)).dim();
    let widths = columns.iter().map(|(_, width)| Constraint::Min(*width));
    Table::new(rows, widths).header(header).block(Block::bordered().title(format!(" {title} ")))
}

fn device_table(devices: &[DeviceStatus]) -> Table<'static> {
    let row = |device: &DeviceStatus| {
        let busy = Line::from(vec![bar(device.busy), format!(" {:>3.0} %", 100.0 * device.busy).into()]);
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
    let columns = [("device", 10), ("in the model", 28), ("batches", 12), ("rows", 14), ("tokens", 16), ("splits", 8)];
    table("devices".into(), &columns, devices.iter().map(row).collect())
}

/// The furthest behind first.
fn partition_table(places: &[PartitionProgress]) -> Table<'static> {
    let mut places: Vec<&PartitionProgress> = places.iter().collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.lag()));
    let behind: Vec<u64> = places.iter().filter_map(|place| place.lag()).collect();
    let mut title = format!("{} partition{}", places.len(), if places.len() == 1 { "" } else { "s" });
    if !behind.is_empty() {
        title += &format!(", {} records behind", HumanCount(behind.iter().sum()));
    }
    let count = |count: Option<u64>| count.map_or("-".into(), |count| HumanCount(count).to_string());
    let row = |place: &PartitionProgress| {
        Row::new([place.partition.clone(), count(place.next), count(place.end), count(place.lag())])
    };
    let columns = [("partition", 40), ("next", 16), ("end", 16), ("behind", 16)];
    table(title, &columns, places.into_iter().map(row).collect())
}

fn last_errors(status: &Status, now: u64) -> Vec<Line<'_>> {
    let errors = status.errors.iter().rev().take(ERRORS_MAX);
    let line = |error: &crate::telemetry::logs::Noted| {
        let ago = HumanDuration(std::time::Duration::from_secs(now.saturating_sub(error.at)));
        let level = if error.level == "ERROR" { "error".red() } else { "warning".yellow() };
        let text = format!(", {ago} ago: {}", error.text);
        Line::from(vec![level, text.into()])
    };
    errors.map(line).collect()
}

#[cfg(test)]
mod tests {
    use crate::telemetry::logs::Noted;
    use crate::telemetry::status::{Counters, InFlight, Rates};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn status() -> Status {
        let place = |number: u32, next: u64, end: u64| PartitionProgress {
            partition: format!("documents[{number}]"),
            next: Some(next),
            end: Some(end),
        };
        let device = |device: &str, busy: f64| DeviceStatus {
            device: device.into(),
            busy,
            batches: 12_345,
            rows: 1_234_567,
            tokens: 123_456_789,
            splits: 0,
        };
        Status {
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
            rates: Rates { records: 812.4, rows: 810.0, tokens: 98_765.4 },
            in_flight: InFlight { windows: 5, batches_queued: 17, bytes: 12 << 20, bytes_max: 40 << 20 },
            devices: vec![device("cuda:0", 0.97), device("cuda:1", 0.42)],
            positions: vec![place(0, 500_000, 500_120), place(1, 400_000, 405_000)],
            errors: vec![Noted { at: 1_000, level: "WARN".into(), text: "publishing failed; trying again".into() }],
        }
    }

    #[test]
    fn a_page_has_everything() {
        let status = status();
        let shown = Shown { url: "http://127.0.0.1:9464", status: Some(&status), trouble: None, now: 1_090 };
        insta::assert_snapshot!("page", page(&shown, 110));
        let starting = Status {
            phase: Phase::Starting,
            not_ready: Some("starting: the model is loaded".into()),
            model: None,
            devices: Vec::new(),
            positions: Vec::new(),
            errors: Vec::new(),
            ..status
        };
        let shown = Shown { url: "http://127.0.0.1:9464", status: Some(&starting), trouble: None, now: 0 };
        insta::assert_snapshot!("page-starting", page(&shown, 110));
    }

    #[test]
    fn any_screen_will_do() {
        let status = status();
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
            for status in [None, Some(&status)] {
                let shown = Shown { url: "http://x", status, trouble: Some("no answer"), now: 0 };
                terminal.draw(|frame| draw(frame, &shown)).expect("it draws");
            }
        }
    }
}

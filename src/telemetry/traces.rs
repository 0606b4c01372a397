//! Traces, one per window. The root span lasts from the window's first record to its commit, with these child spans:
//!
//! - `source`: from reading the first records until the last ones are handed to the pipeline
//! - `tokenize`: from the first extraction to the last
//! - `encode`: from closing the window until its rows are assembled; each `batch` is a child with its device
//! - `publish`: writing rows and dead letters to the sink, one span per attempt
//! - `commit`: committing the offsets of the attempt
//!
//! Produced messages carry the window's trace context in a header, and the window's span links to the contexts of the
//! messages it was made of. Without a tracer (see [`super::otlp`]) the cost is one atomic load per window and batch.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::device::Device;
use crate::record::{Block, Settled, Timestamps};
use crate::window::Window;

/// The header of a trace's context, by W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The number of traces that a window links to at most, within the limits of common backends.
const LINKS_MAX: usize = 32;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces windows from now on.
pub(super) fn init(tracer: SdkTracer) {
    // A process has one run, so the first tracer stays.
    TRACER.get_or_init(|| tracer);
}

/// The parent of spans that another thread records; empty if tracing is off.
#[derive(Debug, Clone, Default)]
pub struct Parent(Option<SpanContext>);

/// The trace of a window between its closing and its settlement; empty if tracing is off.
#[derive(Debug, Default)]
pub struct WindowTrace(Option<OpenSpans>);

#[derive(Debug)]
struct OpenSpans {
    window: Span,
    encode: Span,
    traceparent: String,
    /// When the current attempt had published all rows and dead letters.
    published: Cell<Option<Instant>>,
}

impl WindowTrace {
    /// Begins the trace of a window that was just closed and is divided into so many `batches`.
    pub fn begin(window: &Window, batches: usize) -> WindowTrace {
        let Some(tracer) = TRACER.get() else { return WindowTrace::default() };
        let builder = SpanBuilder::from_name("window")
            .with_kind(SpanKind::Consumer)
            .with_start_time(since_epoch(first(window, |times| times.requested_at).unwrap_or(window.opened)))
            .with_links(links(&window.blocks))
            .with_attributes([
                number("embedmill.window", window.number),
                number("embedmill.records", window.records() as u64),
                number("embedmill.rows", window.rows() as u64),
                KeyValue::new("embedmill.closed", window.closed.as_str()),
            ]);
        let root = tracer.build_with_context(builder, &Context::new());
        let context = root.span_context().clone();
        let traceparent = traceparent(&context);
        let parent = Parent(Some(context));
        let blocks = number("embedmill.blocks", window.blocks.len() as u64);
        parent.record("source", window, |times| times.requested_at, |times| times.read_at, &blocks);
        parent.record("tokenize", window, |times| times.extract_started_at, |times| times.prepared_at, &blocks);
        let encode = SpanBuilder::from_name("encode").with_attributes([number("embedmill.batches", batches as u64)]);
        let encode = tracer.build_with_context(encode, &parent.context());
        WindowTrace(Some(OpenSpans { window: root, encode, traceparent, published: Cell::new(None) }))
    }

    /// The parent of the window's batches.
    pub fn encode(&self) -> Parent {
        Parent(self.0.as_ref().map(|open| open.encode.span_context().clone()))
    }

    /// All rows of the window are assembled.
    pub fn encoded(&mut self) {
        if let Some(open) = &mut self.0 {
            open.encode.end();
        }
    }

    /// The value of the header [`TRACEPARENT`] of produced messages.
    pub fn traceparent(&self) -> Option<&str> {
        self.0.as_ref().map(|open| open.traceparent.as_str())
    }

    /// The sink has taken all rows and dead letters; the commit follows.
    pub fn published(&self) {
        if let Some(open) = &self.0 {
            open.published.set(Some(Instant::now()));
        }
    }

    /// An attempt to publish that began at `began` has ended, and failed if there is an error.
    pub fn tried(&self, began: Instant, failed: Option<&dyn std::error::Error>) {
        let Some(open) = &self.0 else { return };
        let parent = Parent(Some(open.window.span_context().clone()));
        let now = Instant::now();
        let status = |failed: Option<&dyn std::error::Error>| {
            failed.map_or(Status::Unset, |error| Status::error(error.to_string()))
        };
        match open.published.take() {
            Some(published) => {
                parent.ended("publish", SpanKind::Producer, began, published, Status::Unset);
                parent.ended("commit", SpanKind::Internal, published, now, status(failed));
            }
            None => parent.ended("publish", SpanKind::Producer, began, now, status(failed)),
        }
    }

    /// The window is settled.
    pub fn settled(mut self, settled: &Settled) {
        let Some(open) = &mut self.0 else { return };
        let counts = [
            ("embedmill.published", settled.published()),
            ("embedmill.dead_lettered", settled.dead_lettered()),
            ("embedmill.deleted", settled.deletes),
            ("embedmill.abandoned", settled.abandoned),
            ("embedmill.tokens", settled.tokens),
        ];
        counts.into_iter().for_each(|(name, count)| open.window.set_attribute(number(name, count)));
        open.window.end();
    }

    /// The window cannot be settled, and the run stops.
    pub fn failed(mut self, error: &dyn std::error::Error) {
        if let Some(open) = &mut self.0 {
            open.window.set_status(Status::error(error.to_string()));
            open.window.end();
        }
    }
}

impl Parent {
    /// Records the span of a batch that a worker began to encode at `began` and has just ended.
    pub fn batch(&self, device: Device, worker: usize, rows: usize, tokens: usize, began: Instant, is_ok: bool) {
        let (Some(tracer), Some(_)) = (TRACER.get(), &self.0) else { return };
        let builder = SpanBuilder::from_name("batch").with_start_time(since_epoch(began)).with_attributes([
            KeyValue::new("embedmill.device", device.to_string()),
            number("embedmill.worker", worker as u64),
            number("embedmill.rows", rows as u64),
            number("embedmill.tokens", tokens as u64),
        ]);
        let mut span = tracer.build_with_context(builder, &self.context());
        if !is_ok {
            span.set_status(Status::error("the batch could not be encoded"));
        }
        span.end();
    }

    fn context(&self) -> Context {
        match &self.0 {
            Some(parent) => Context::new().with_remote_span_context(parent.clone()),
            None => Context::new(),
        }
    }

    /// Records a span from the earliest `from` of the window's blocks to the latest `to`.
    fn record(&self, name: &'static str, window: &Window, from: TimestampOf, to: TimestampOf, attribute: &KeyValue) {
        let (Some(tracer), Some(from)) = (TRACER.get(), first(window, from)) else { return };
        let to = window.blocks.iter().map(|block| to(&block.timestamps)).max().unwrap_or(from);
        let builder =
            SpanBuilder::from_name(name).with_start_time(since_epoch(from)).with_attributes([attribute.clone()]);
        tracer.build_with_context(builder, &self.context()).end_with_timestamp(since_epoch(to));
    }

    /// Records a span that has ended already.
    fn ended(&self, name: &'static str, kind: SpanKind, from: Instant, to: Instant, status: Status) {
        let Some(tracer) = TRACER.get() else { return };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(since_epoch(from));
        let mut span = tracer.build_with_context(builder, &self.context());
        span.set_status(status);
        span.end_with_timestamp(since_epoch(to));
    }
}

fn number(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

/// Selects one of the timestamps of a block.
type TimestampOf = fn(&Timestamps) -> Instant;

fn first(window: &Window, of: TimestampOf) -> Option<Instant> {
    window.blocks.iter().map(|block| of(&block.timestamps)).min()
}

fn since_epoch(instant: Instant) -> SystemTime {
    SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
}

fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

/// Links to the trace contexts of the records' messages, each trace once, at most [`LINKS_MAX`].
fn links(blocks: &[Block]) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for block in blocks {
        for record in 0..block.records() {
            let headers = block.body.envelope(record).into_iter().flat_map(|envelope| &envelope.headers);
            let context = headers
                .filter(|(name, _)| name == TRACEPARENT)
                .find_map(|(_, value)| parse_traceparent(value.as_deref()?));
            let Some(context) = context else { continue };
            if links.iter().all(|link| link.span_context.trace_id() != context.trace_id()) {
                links.push(Link::with_context(context));
            }
            if links.len() >= LINKS_MAX {
                return links;
            }
        }
    }
    links
}

/// Parses `version-trace-span-flags` of W3C Trace Context; `None` if it is malformed. Later versions may have more fields.
fn parse_traceparent(header: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(header).ok()?.trim();
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && version != "ff";
    if !well_formed || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_written_and_read_by_the_w3c_format() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = parse_traceparent(good.as_bytes()).expect("a context");
        assert_eq!(traceparent(&context), good);
        assert!(context.is_sampled() && context.is_remote());
        let later = format!("cc{}-what-comes", &good[2..]);
        assert!(parse_traceparent(later.as_bytes()).is_some(), "a later version may have more");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parse_traceparent(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}

//! Traces: a window is one. Its span goes from its first record to its commit, and has these under it:
//!
//! - `source`: from its first records read to its last handed on
//! - `tokenize`: from the first of them extracted to the last
//! - `encode`: from the window closed to its vectors put together, and under it a `batch` each, with its device
//! - `publish`: rows and dead letters to the sink, once for each try; `commit`: their positions
//!
//! Messages carry the window's context in a header, and the window links to the contexts that its records came with.
//! Without a tracer (see [`super::otlp`]) all of this is one load of an atomic a window and a batch.

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
use crate::record::Settled;
use crate::record::{Block, Timestamps};
use crate::window::Window;

/// Where a trace's context travels: the header of W3C's Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// Most traces that a window links to: enough to see where it came from, few enough for any backend.
const LINKS_MAX: usize = 32;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// From now on windows are traced.
pub(super) fn begin(tracer: SdkTracer) {
    // A process has one run.
    TRACER.get_or_init(|| tracer);
}

/// What spans of another thread are put under; nothing where nobody traces.
#[derive(Debug, Clone, Default)]
pub struct Parent(Option<SpanContext>);

/// A window's trace while it is on its way; nothing where nobody traces.
#[derive(Debug, Default)]
pub struct WindowTrace(Option<Open>);

#[derive(Debug)]
struct Open {
    window: Span,
    encode: Span,
    traceparent: String,
    /// When the try that goes on had published everything.
    published: Cell<Option<Instant>>,
}

impl WindowTrace {
    /// A window is closed, and its batches go to the devices.
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
        let blocks = number("embedmill.runs", window.blocks.len() as u64);
        parent.record("source", window, (|times| times.requested_at, |times| times.read_at), &blocks);
        parent.record("tokenize", window, (|times| times.extract_started_at, |times| times.prepared_at), &blocks);
        let encode = SpanBuilder::from_name("encode").with_attributes([number("embedmill.batches", batches as u64)]);
        let encode = tracer.build_with_context(encode, &parent.context());
        WindowTrace(Some(Open { window: root, encode, traceparent, published: Cell::new(None) }))
    }

    /// What a batch of the window is put under.
    pub fn encode(&self) -> Parent {
        Parent(self.0.as_ref().map(|open| open.encode.span_context().clone()))
    }

    /// The window has its vectors.
    pub fn encoded(&mut self) {
        if let Some(open) = &mut self.0 {
            open.encode.end();
        }
    }

    /// What messages carry as [`TRACEPARENT`].
    pub fn traceparent(&self) -> Option<&str> {
        self.0.as_ref().map(|open| open.traceparent.as_str())
    }

    /// Rows and dead letters are with the sink; what follows is the commit.
    pub fn published(&self) {
        if let Some(open) = &self.0 {
            open.published.set(Some(Instant::now()));
        }
    }

    /// A try at publishing, which `began` then, has ended.
    pub fn tried(&self, began: Instant, failed: Option<&dyn std::error::Error>) {
        let Some(open) = &self.0 else { return };
        let parent = Parent(Some(open.window.span_context().clone()));
        let now = Instant::now();
        let status = |failed: Option<&dyn std::error::Error>| {
            failed.map_or(Status::Unset, |error| Status::error(error.to_string()))
        };
        match open.published.take() {
            Some(published) => {
                parent.ended("publish", SpanKind::Producer, (began, published), Status::Unset);
                parent.ended("commit", SpanKind::Internal, (published, now), status(failed));
            }
            None => parent.ended("publish", SpanKind::Producer, (began, now), status(failed)),
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

    /// The window is not settled, and stops the run.
    pub fn failed(mut self, error: &dyn std::error::Error) {
        if let Some(open) = &mut self.0 {
            open.window.set_status(Status::error(error.to_string()));
            open.window.end();
        }
    }
}

impl Parent {
    /// A device has encoded a batch in the time that has gone since `began`.
    pub fn batch(
        &self,
        (device, worker): (Device, usize),
        (rows, tokens): (usize, usize),
        began: Instant,
        is_ok: bool,
    ) {
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

    /// From the first of a window's runs of records to the last.
    fn record(&self, name: &'static str, window: &Window, (from, to): (Moment, Moment), attribute: &KeyValue) {
        let (Some(tracer), Some(from)) = (TRACER.get(), first(window, from)) else { return };
        let to = window.blocks.iter().map(|block| to(&block.timestamps)).max().unwrap_or(from);
        let builder =
            SpanBuilder::from_name(name).with_start_time(since_epoch(from)).with_attributes([attribute.clone()]);
        tracer.build_with_context(builder, &self.context()).end_with_timestamp(since_epoch(to));
    }

    fn ended(&self, name: &'static str, kind: SpanKind, (from, to): (Instant, Instant), status: Status) {
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

/// One of a run's times.
type Moment = fn(&Timestamps) -> Instant;

fn first(window: &Window, of: Moment) -> Option<Instant> {
    window.blocks.iter().map(|block| of(&block.timestamps)).min()
}

fn since_epoch(instant: Instant) -> SystemTime {
    SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
}

fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

/// The contexts that records came with, each trace once, up to [`LINKS_MAX`].
fn links(blocks: &[Block]) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for block in blocks {
        for record in 0..block.records() {
            let headers = block.body.envelope(record).into_iter().flat_map(|envelope| &envelope.headers);
            let context =
                headers.filter(|(name, _)| name == TRACEPARENT).find_map(|(_, value)| parsed(value.as_deref()?));
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

/// W3C's `version-trace-span-flags`; what is not that is no context. Later versions may have more fields.
fn parsed(header: &[u8]) -> Option<SpanContext> {
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
    fn contexts_are_written_and_read_as_w3c_has_them() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = parsed(good.as_bytes()).expect("a context");
        assert_eq!(traceparent(&context), good);
        assert!(context.is_sampled() && context.is_remote());
        let later = format!("cc{}-what-comes", &good[2..]);
        assert!(parsed(later.as_bytes()).is_some(), "a later version may have more");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parsed(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}

//! The HTTP endpoint: `/live`, `/ready`, `/metrics` and `/status`, for as long as a run lasts.
//!
//! In:    an address, and the plan's lines. Out: answers to GET and HEAD; anything else is refused by name.
//! Keeps: the recorder's handle and the samples that rates are made of.
//! Fails: only when it starts, if the address cannot be had. Connections are few and short: more than
//!        [`CONNECTIONS_MAX`] wait, and one that does not speak within [`HEADERS_MAX`] is closed.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::live::LIVE;
use super::names;
use super::otlp::OtlpConfig;
use super::status::{InFlight, PlanLine, Sampler, Status};

/// A scraper, a probe and a few people with `top`; more only ever comes by mistake.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's headers may take.
const HEADERS_MAX: Duration = Duration::from_secs(10);
/// How often samples for rates are taken, and the recorder's histograms are folded up.
const TICK: Duration = Duration::from_secs(1);
/// After an accept that failed: out of file descriptors passes, and a loop would only eat the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served.
pub const PATHS: &str = "/live, /ready, /metrics and /status";

/// `observe:` in the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObserveConfig {
    /// Where /live, /ready, /metrics and /status are served, as host:port; 0.0.0.0 is all of the machine's addresses,
    /// port 0 a free one, which the log tells. Left out: 127.0.0.1:9464, or nowhere if only `otlp` is given.
    pub listen: Option<String>,
    /// Where traces are sent: a window is one, with its stages. Left out, to OTEL_EXPORTER_OTLP_ENDPOINT if that is set.
    pub otlp: Option<OtlpConfig>,
}

/// Only this machine sees it; the port is that of OpenTelemetry's exporters for Prometheus.
const LISTEN: &str = "127.0.0.1:9464";

impl ObserveConfig {
    /// The address, if it is to be served, or what is wrong with it.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        let listen = match (&self.listen, &self.otlp) {
            (Some(listen), _) => listen,
            (None, None) => LISTEN,
            (None, Some(_)) => return Ok(None),
        };
        let parsed = listen.parse().or_else(|error| {
            // The one name that means the same everywhere.
            let port = listen.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
            port.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).ok_or(error)
        });
        parsed
            .map(Some)
            .map_err(|_| format!("expected an address and a port, such as {LISTEN} or 0.0.0.0:9464, found `{listen}`"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(
        "observe.listen: {address}: another process has this port; give another, or 0 for a free one, as in --set \
         observe.listen={}:0", address.ip()
    )]
    Taken { address: SocketAddr },
    #[error(
        "observe.listen: {address}: {cause}; expected an address of this machine and a port that this user may have"
    )]
    Listen { address: SocketAddr, cause: io::Error },
}

/// Serves until it is dropped.
pub struct Observer {
    address: SocketAddr,
    served: Arc<Served>,
    _over: DropGuard,
}

impl Observer {
    /// Takes the address, installs the recorder, and serves from now on. Call it within tokio's runtime.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn start(address: SocketAddr, plan: Vec<PlanLine>) -> Result<Observer, ObserveError> {
        let listener = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => ObserveError::Taken { address },
            _ => ObserveError::Listen { address, cause },
        })?;
        let address = listener.local_addr().unwrap_or(address);
        let served = Arc::new(Served {
            metrics: install(),
            plan: Mutex::new(plan),
            started: Instant::now(),
            sampler: Mutex::default(),
        });
        names::BUILD_INFO.set(1.0, &[env!("CARGO_PKG_VERSION")]);
        let over = CancellationToken::new();
        tokio::spawn(over.clone().run_until_cancelled_owned(tick(served.clone())));
        tokio::spawn(over.clone().run_until_cancelled_owned(accept(listener, served.clone())));
        Ok(Observer { address, served, _over: over.drop_guard() })
    }

    /// The plan is another now.
    pub fn show(&self, plan: Vec<PlanLine>) {
        *self.served.plan() = plan;
    }

    /// Where it listens: with port 0, the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The process's recorder. Where there is one already (a program that uses the library has its own), that one records,
/// and `/metrics` shows nothing.
fn install() -> PrometheusHandle {
    let mut builder = PrometheusBuilder::new();
    for (end, bounds) in names::BUCKETS {
        builder =
            builder.set_buckets_for_metric(Matcher::Suffix((*end).into()), bounds).expect("the bounds are not empty");
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("this process records metrics elsewhere already; /metrics stays empty");
    }
    names::begin();
    handle
}

/// What requests are answered from.
struct Served {
    metrics: PrometheusHandle,
    plan: Mutex<Vec<PlanLine>>,
    started: Instant,
    sampler: Mutex<Sampler>,
}

async fn tick(served: Arc<Served>) {
    loop {
        served.sampler().tick(Instant::now());
        served.metrics.run_upkeep();
        tokio::time::sleep(TICK).await;
    }
}

/// Takes connections until it is dropped, which closes them.
async fn accept(listener: TcpListener, served: Arc<Served>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = served.clone();
                connections.spawn(async move {
                    serve(stream, served).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to observe.listen could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, served: Arc<Served>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = served.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    // A client that goes away in the middle is its own affair.
    drop(http.serve_connection(TokioIo::new(stream), answer).await);
}

impl Served {
    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> MutexGuard<'_, Vec<PlanLine>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// hyper leaves the body out of the answer to HEAD.
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{method}: expected GET\n"));
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/live" => response(StatusCode::OK, TEXT, "live\n"),
            "/ready" => {
                let not_ready = LIVE.lock().not_ready();
                match not_ready {
                    None => response(StatusCode::OK, TEXT, "ready\n"),
                    Some(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
                }
            }
            "/metrics" => {
                sample_gauges();
                response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            "/status" => {
                let status = Status::now(&self.plan(), self.started, &self.sampler(), Instant::now());
                match serde_json::to_string_pretty(&status) {
                    Ok(json) => response(StatusCode::OK, "application/json", json + "\n"),
                    Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
                }
            }
            _ => response(StatusCode::NOT_FOUND, TEXT, format!("{path} is not here; there are {PATHS}\n")),
        }
    }
}

/// What changes all the time is looked at when somebody asks.
fn sample_gauges() {
    let (in_flight, is_ready) = {
        let state = LIVE.lock();
        (InFlight::of(state.running.as_ref()), state.not_ready().is_none())
    };
    names::IN_FLIGHT_BYTES.set(in_flight.bytes as f64, &[]);
    names::IN_FLIGHT_BYTES_MAX.set(in_flight.bytes_max as f64, &[]);
    names::WINDOWS_IN_FLIGHT.set(in_flight.windows as f64, &[]);
    names::BATCHES_QUEUED.set(in_flight.batches_queued as f64, &[]);
    names::READY.set(f64::from(u8::from(is_ready)), &[]);
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_mistakes_told() {
        let address = |listen: &str| {
            let observe = ObserveConfig { listen: Some(listen.into()), otlp: None };
            observe.address().map(|address| address.expect("it is served"))
        };
        let traces = ObserveConfig { listen: None, otlp: Some(OtlpConfig::default()) };
        assert_eq!(traces.address(), Ok(None));
        assert!(ObserveConfig::default().address().is_ok_and(|address| address.is_some()));
        assert_eq!(address("localhost:1").map(|address| address.to_string()), Ok("127.0.0.1:1".into()));
        assert_eq!(address("[::1]:9464").map(|address| address.port()), Ok(9464));
        for wrong in ["", "9464", ":9464", "example.org:1", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(address(wrong).is_err_and(|error| error.contains("expected an address and a port")), "{wrong}");
        }
    }
}

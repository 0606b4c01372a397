//! The HTTP endpoint of a run: `/live`, `/ready`, `/metrics` and `/status`.
//!
//! In:    an address, and the lines of the plan. Out: responses to GET and HEAD; other methods and paths get an error.
//! Keeps: the handle of the metrics recorder, and the samples that rates are computed from.
//! Fails: only at the start, if the address cannot be bound. At most [`CONNECTIONS_MAX`] connections are served at once,
//!        and one that sends no complete headers within [`HEADERS_MAX`] is closed.

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

/// Enough for a scraper, probes and a few people with `top`; more would be a mistake.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send the headers of a request.
const HEADERS_MAX: Duration = Duration::from_secs(10);
/// How often a sample for the rates is taken, and the recorder merges its histograms.
const TICK: Duration = Duration::from_secs(1);
/// The pause after a failed accept. The cause, such as too many open files, often passes; retrying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The paths that are served.
pub(crate) const PATHS: &str = "/live, /ready, /metrics and /status";

/// The section `observe` of the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObserveConfig {
    /// The address of the HTTP endpoint for /live, /ready, /metrics and /status, as host:port. The host 0.0.0.0 means all
    /// interfaces; port 0 picks a free port, which is logged. Default: 127.0.0.1:9464, or no endpoint if only `otlp` is set.
    pub listen: Option<String>,
    /// Export of traces by OpenTelemetry's protocol (OTLP), one trace per window. Default: traces are exported only if the
    /// environment variable OTEL_EXPORTER_OTLP_ENDPOINT is set.
    pub otlp: Option<OtlpConfig>,
}

/// Reachable from this machine only. The port is the usual one of OpenTelemetry's Prometheus exporters.
const LISTEN_DEFAULT: &str = "127.0.0.1:9464";

impl ObserveConfig {
    /// The address to listen on; `None` if no endpoint is wanted.
    ///
    /// # Errors
    /// What was found and what was expected, if the address cannot be parsed.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        let listen = match (&self.listen, &self.otlp) {
            (Some(listen), _) => listen,
            (None, None) => LISTEN_DEFAULT,
            (None, Some(_)) => return Ok(None),
        };
        let parsed = listen.parse().or_else(|error| {
            // The only host name that needs no resolver.
            let port = listen.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
            port.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).ok_or(error)
        });
        parsed.map(Some).map_err(|_| {
            format!("found {listen:?}; expected an address and a port, such as {LISTEN_DEFAULT} or 0.0.0.0:9464")
        })
    }
}

/// Why the endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    #[error(
        "observe.listen: {address}: address already in use; expected a free port (port 0 picks one, as in --set \
         observe.listen={}:0)", address.ip()
    )]
    /// Another process listens on the address.
    AddressInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    #[error(
        "observe.listen: {address}: {cause}; expected an address of this machine and a port that this user may bind"
    )]
    /// The address cannot be bound for another reason.
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why it cannot be bound.
        cause: io::Error,
    },
}

/// The running HTTP endpoint. Dropping it closes the endpoint and all connections.
pub(crate) struct Observer {
    address: SocketAddr,
    server: Arc<Server>,
    _stop: DropGuard,
}

impl Observer {
    /// Binds the address, installs the metrics recorder, and serves from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(crate) fn start(address: SocketAddr, plan: Vec<PlanLine>) -> Result<Observer, ObserveError> {
        let listener = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => ObserveError::AddressInUse { address },
            _ => ObserveError::Listen { address, cause },
        })?;
        let address = listener.local_addr().unwrap_or(address);
        let server = Arc::new(Server {
            metrics: install_recorder(),
            plan: Mutex::new(plan),
            started: Instant::now(),
            sampler: Mutex::default(),
        });
        names::BUILD_INFO.set(1.0, &[env!("CARGO_PKG_VERSION")]);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(tick(server.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, server.clone())));
        Ok(Observer { address, server, _stop: stop.drop_guard() })
    }

    /// Replaces the plan that `/status` shows, after a reload.
    pub(crate) fn set_plan(&self, plan: Vec<PlanLine>) {
        *self.server.plan() = plan;
    }

    /// The address it listens on; if port 0 was asked for, with the actual port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Installs the recorder of this process. If the program that embeds the library has installed one already, that one
/// records, and `/metrics` stays empty.
fn install_recorder() -> PrometheusHandle {
    let mut builder = PrometheusBuilder::new();
    for (end, bounds) in names::BUCKETS {
        builder =
            builder.set_buckets_for_metric(Matcher::Suffix((*end).into()), bounds).expect("the bounds are not empty");
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed in this process; /metrics stays empty");
    }
    names::init();
    handle
}

/// The state that requests are answered from.
struct Server {
    metrics: PrometheusHandle,
    plan: Mutex<Vec<PlanLine>>,
    started: Instant,
    sampler: Mutex<Sampler>,
}

async fn tick(server: Arc<Server>) {
    loop {
        server.sampler().tick(Instant::now());
        server.metrics.run_upkeep();
        tokio::time::sleep(TICK).await;
    }
}

/// Accepts connections until the future is dropped, which closes them.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                connections.spawn(async move {
                    serve(stream, server).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection on observe.listen failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, server: Arc<Server>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = server.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    // A client that disconnects early is not an error of the run.
    drop(http.serve_connection(TokioIo::new(stream), answer).await);
}

impl Server {
    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> MutexGuard<'_, Vec<PlanLine>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response to a request. For HEAD, hyper leaves the body out.
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = response(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                format!("{method}: method not allowed; expected GET or HEAD\n"),
            );
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
            _ => response(StatusCode::NOT_FOUND, TEXT, format!("{path}: not found; expected one of {PATHS}\n")),
        }
    }
}

/// Sets the gauges of quantities that change all the time; they are sampled only when scraped.
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
    fn addresses_are_parsed_and_mistakes_reported() {
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

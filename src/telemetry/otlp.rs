//! Traces out, by OTLP over HTTP with protobuf.
//!
//! In: spans that have ended, from [`super::traces`]. Out: requests to a collector, from a thread of the SDK's own, in batches.
//! Keeps: at most the SDK's queue of 2,048 spans; what does not fit is let go. Fails: never the run. A collector that cannot
//! be reached is a warning, and its spans are lost.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::traces;

/// How long a request may take, and how long the end of a run waits for the last ones.
const SEND_MAX: Duration = Duration::from_secs(3);
/// Most bytes of a collector's answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Under the endpoint.
const PATH: &str = "/v1/traces";

/// `observe.otlp:` in the pipeline file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// The collector, as in http://localhost:4318; traces go to /v1/traces there. Left out: OTEL_EXPORTER_OTLP_ENDPOINT.
    pub endpoint: Option<String>,
    /// Sent with every request, such as an `authorization`.
    pub headers: BTreeMap<String, String>,
    /// What the run is called. Left out: OTEL_SERVICE_NAME, else embedmill.
    pub service_name: Option<String>,
    /// Which share of windows is traced.
    pub sample_ratio: f64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        OtlpConfig { endpoint: None, headers: BTreeMap::new(), service_name: None, sample_ratio: 1.0 }
    }
}

/// Names of headers alone: values may be secrets.
impl std::fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OtlpConfig { endpoint, headers, service_name, sample_ratio } = self;
        f.debug_struct("OtlpConfig")
            .field("endpoint", endpoint)
            .field("headers", &headers.keys())
            .field("service_name", service_name)
            .field("sample_ratio", sample_ratio)
            .finish()
    }
}

impl OtlpConfig {
    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let place = self.endpoint.as_deref().map_or_else(|| "where the environment says".to_owned(), url);
        format!("to {place}, {} % of windows", self.sample_ratio * 100.0)
    }

    /// What can be said without the environment.
    ///
    /// # Errors
    /// The key under `observe.otlp`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint).map_err(|message| ("endpoint", message))?;
        }
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        for (name, value) in &self.headers {
            if name.is_empty() || !name.chars().all(is_token) {
                return Err(("headers", format!("`{name}` is no header's name")));
            }
            if value.chars().any(|c| c.is_ascii_control()) {
                let message =
                    format!("the value of `{name}` has a control character; is there a line break at its end?");
                return Err(("headers", message));
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(("sample_ratio", format!("expected a number from 0 to 1, found {}", self.sample_ratio)));
        }
        Ok(())
    }
}

/// # Errors
/// What was expected.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match rest {
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => {
            Err("has a user or a password in it, which would be logged; expected them in `headers`".into())
        }
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("expected a collector's address such as http://localhost:4318, found `{endpoint}`")),
    }
}

/// Where traces go, with what the environment says.
#[derive(Clone, PartialEq)]
pub struct OtlpSettings {
    /// Whole, with its path.
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub service_name: String,
    pub sample_ratio: f64,
}

/// The address of a collector with the path of traces, which it may have already.
pub fn url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") }
}

#[derive(Debug, thiserror::Error)]
#[error("observe.otlp: {0}")]
pub struct OtlpError(pub String);

/// Sends what ends from now on, until it is dropped.
pub struct Tracing {
    provider: SdkTracerProvider,
}

impl Tracing {
    /// # Errors
    /// If the settings cannot be used.
    pub fn start(settings: OtlpSettings) -> Result<Tracing, OtlpError> {
        let OtlpSettings { url, headers, service_name, sample_ratio } = settings;
        let agent = ureq::Agent::config_builder().timeout_global(Some(SEND_MAX)).http_status_as_error(false).build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { agent: agent.into(), url: url.clone() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(SEND_MAX)
            .with_headers(headers.into_iter().collect::<HashMap<_, _>>())
            .build()
            .map_err(|error| OtlpError(error.to_string()))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(service_name).with_attribute(version).build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio))))
            .with_batch_exporter(exporter)
            .build();
        traces::begin(provider.tracer("embedmill"));
        Ok(Tracing { provider })
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SEND_MAX) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// HTTP for the exporter, which has a thread of its own: a request may block there.
#[derive(Debug)]
struct Sender {
    agent: ureq::Agent,
    url: String,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.agent.run(request.map(|body| body.to_vec())).and_then(|response| {
            let (parts, mut body) = response.into_parts();
            let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
            Ok(Response::from_parts(parts, Bytes::from(body)))
        });
        match &sent {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => {
                tracing::warn!(url = self.url, status = response.status().as_u16(), "traces were not taken")
            }
            Err(error) => tracing::warn!(url = self.url, %error, "traces could not be sent"),
        }
        Ok(sent?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_mistakes_told() {
        assert_eq!(url("http://localhost:4318"), url("http://localhost:4318/"));
        assert_eq!(url("https://c.example/otlp"), "https://c.example/otlp/v1/traces");
        assert_eq!(url("https://c.example/otlp/v1/traces/"), "https://c.example/otlp/v1/traces");
        for good in ["http://localhost:4318", "https://collector:443/otlp"] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for wrong in ["", "localhost:4318", "http://", "grpc://a:4317", "http:///v1", "http://a b"] {
            assert!(check_endpoint(wrong).is_err_and(|error| error.contains("http://localhost:4318")), "{wrong}");
        }
    }
}

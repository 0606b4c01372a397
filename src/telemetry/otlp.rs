//! Export of traces by OTLP over HTTP with protobuf.
//!
//! In:    ended spans from [`super::traces`]. Out: batched requests to a collector, from a thread of the SDK.
//! Keeps: at most the SDK's queue of 2,048 spans; spans that do not fit are dropped.
//! Fails: never the run. If the collector cannot be reached, a warning is logged and the spans are lost.

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

/// How long a request may take, and how long the end of a run waits for the last spans.
const SEND_MAX: Duration = Duration::from_secs(3);
/// Bytes that are read of a collector's response.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;
/// The path of traces under the endpoint.
const PATH: &str = "/v1/traces";

/// The section `observe.otlp` of the pipeline file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// The collector's address, such as http://localhost:4318; traces are posted to /v1/traces under it. Default: the
    /// environment variable OTEL_EXPORTER_OTLP_ENDPOINT.
    pub endpoint: Option<String>,
    /// HTTP headers sent with every request, such as `authorization`. Default: none.
    pub headers: BTreeMap<String, String>,
    /// The resource attribute service.name. Default: the environment variable OTEL_SERVICE_NAME, or else embedmill.
    pub service_name: Option<String>,
    /// The fraction of windows that is traced, from 0 to 1. Default: 1.
    pub sample_ratio: f64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        OtlpConfig { endpoint: None, headers: BTreeMap::new(), service_name: None, sample_ratio: 1.0 }
    }
}

/// Shows the names of headers only, because their values may be secrets.
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
        let collector = self.endpoint.as_deref().map_or_else(|| "the endpoint of the environment".to_owned(), url);
        format!("to {collector}, {} % of windows", self.sample_ratio * 100.0)
    }

    /// Checks what can be checked without the environment.
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
                return Err((
                    "headers",
                    format!("{name:?}: invalid header name; expected letters, digits and hyphens"),
                ));
            }
            if value.chars().any(|c| c.is_ascii_control()) {
                let message = format!(
                    "{name:?}: the value contains a control character; expected printable text (check for a line break at \
                     its end)"
                );
                return Err(("headers", message));
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(("sample_ratio", format!("found {}; expected a number from 0 to 1", self.sample_ratio)));
        }
        Ok(())
    }
}

/// Checks that `endpoint` is an HTTP address without credentials.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match rest {
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => Err(
            "contains a user name or password, which would be logged; expected credentials in `observe.otlp.headers`"
                .into(),
        ),
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("found {endpoint:?}; expected the collector's address, such as http://localhost:4318")),
    }
}

/// The settings of the export, with the environment applied.
#[derive(Clone, PartialEq)]
pub(crate) struct OtlpSettings {
    /// The full URL that traces are posted to.
    pub url: String,
    /// HTTP headers sent with every request.
    pub headers: BTreeMap<String, String>,
    /// The resource attribute service.name.
    pub service_name: String,
    /// The fraction of windows that is traced, from 0 to 1.
    pub sample_ratio: f64,
}

/// The URL of traces at the collector `endpoint`, which may include the path already.
pub(crate) fn url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") }
}

/// The exporter cannot be built from the settings.
#[derive(Debug, thiserror::Error)]
#[error("observe.otlp: {0}")]
pub(crate) struct OtlpError(pub String);

/// The running export. Dropping it sends the last spans.
pub(crate) struct TraceExport {
    provider: SdkTracerProvider,
}

impl TraceExport {
    /// Exports spans that end from now on.
    ///
    /// # Errors
    /// If the exporter cannot be built from the settings.
    pub(crate) fn start(settings: OtlpSettings) -> Result<TraceExport, OtlpError> {
        let OtlpSettings { url, headers, service_name, sample_ratio } = settings;
        let agent = ureq::Agent::config_builder().timeout_global(Some(SEND_MAX)).http_status_as_error(false).build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(HttpSender { agent: agent.into(), url: url.clone() })
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
        traces::init(provider.tracer("embedmill"));
        Ok(TraceExport { provider })
    }
}

impl Drop for TraceExport {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SEND_MAX) {
            tracing::warn!(%error, "exporting the last traces failed");
        }
    }
}

/// The HTTP client of the exporter. Requests may block, because the exporter has a thread of its own.
#[derive(Debug)]
struct HttpSender {
    agent: ureq::Agent,
    url: String,
}

#[async_trait]
impl HttpClient for HttpSender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.agent.run(request.map(|body| body.to_vec())).and_then(|response| {
            let (parts, mut body) = response.into_parts();
            let body = body.with_config().limit(RESPONSE_BYTES_MAX).read_to_vec()?;
            Ok(Response::from_parts(parts, Bytes::from(body)))
        });
        match &sent {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => {
                tracing::warn!(url = self.url, status = response.status().as_u16(), "trace export rejected")
            }
            Err(error) => tracing::warn!(url = self.url, %error, "trace export failed"),
        }
        Ok(sent?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_parsed_and_mistakes_reported() {
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

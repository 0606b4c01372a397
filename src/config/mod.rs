//! The pipeline file: layers of YAML, environment and command line into one typed [`Config`].
//!
//! Each stage defines its own section beside its code; this file only puts them together. Layers, later ones winning:
//! defaults, files in the order given, `EMBEDMILL__A__B` from the environment, `--set a.b=v`. `${VAR}`, `${VAR:-default}`
//! and `${VAR:?message}` are expanded in string values. The environment is read here and nowhere else.

mod aliases;
mod ends;
mod keys;
mod layers;
mod read;
mod variables;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchConfig;
use crate::delivery::DeliveryGuarantee;
use crate::model::ModelConfig;
use crate::model::hub::{HubSettings, Secret};
use crate::output::OutputConfig;
use crate::telemetry::ObserveConfig;
use crate::telemetry::otlp::{self, OtlpConfig, OtlpSettings};
use crate::text::field::RecordConfig;
use crate::window::WindowConfig;

pub use ends::{DeadLetterConfig, SinkConfig, SourceConfig};
pub use layers::{Layers, document};

/// A pipeline, as it is written; [`crate::plan::Plan`] is the same checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where records come from: exactly one source.
    pub source: SourceConfig,
    /// Which fields of a record are its id, its text, and columns to keep.
    pub record: RecordConfig,
    /// How many records travel together: the unit of delivery.
    pub window: WindowConfig,
    /// How many tokens go through the model at once.
    pub batch: BatchConfig,
    /// What turns text into vectors.
    pub model: ModelConfig,
    /// One worker a device: cpu, cuda:0, …; cpu may be listed several times, sharing the weights. `auto` is all
    /// GPUs, else the CPU with a worker a core.
    pub devices: Vec<String>,
    /// Where rows go: exactly one sink.
    pub sink: SinkConfig,
    /// Which columns are written besides the vectors.
    pub output: OutputConfig,
    /// What is promised of every record, from a Kafka topic to another: at_least_once or exactly_once.
    pub delivery: DeliveryGuarantee,
    /// Where records go that cannot be embedded. Left out, the first of them stops the run.
    pub dead_letter: Option<DeadLetterConfig>,
    /// How long a run that is told to stop may take to finish what it has read, in milliseconds; what is not published
    /// by then is given up.
    pub drain_ms: u64,
    /// Where the run can be watched. Left out: nowhere.
    pub observe: Option<ObserveConfig>,
    /// What is logged: error, warn, info, debug or trace, or by place, as in `info,embedmill::source=debug`. The variable
    /// EMBEDMILL_LOG goes before it. Left out: info.
    pub log: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            source: SourceConfig::default(),
            record: RecordConfig::default(),
            window: WindowConfig::default(),
            batch: BatchConfig::default(),
            model: ModelConfig::default(),
            devices: vec!["auto".into()],
            sink: SinkConfig::default(),
            output: OutputConfig::default(),
            delivery: DeliveryGuarantee::default(),
            dead_letter: None,
            // Below the 30 s that Kubernetes gives a pod to end.
            drain_ms: 25_000,
            observe: None,
            log: None,
        }
    }
}

/// A mistake in the configuration: which key, where it was written, and what is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", shown(.place, .key, .message))]
pub struct ConfigError {
    /// `pipeline.yaml:12`, `--set`, or the environment variable; empty where nothing was written.
    pub place: String,
    pub key: String,
    pub message: String,
}

fn shown(place: &str, key: &str, message: &str) -> String {
    let parts = [place, key, message];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The JSON Schema of the pipeline file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// How to reach the model hub: the variables of the Hugging Face tools, with `model.cache` and `model.offline` over them.
pub fn hub_settings(model: &ModelConfig) -> HubSettings {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        cache.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache")).join("huggingface")
    });
    let token_file = || std::fs::read_to_string(home.join("token")).ok().map(|token| token.trim().to_string());
    let token = variable("HF_TOKEN").or_else(token_file).filter(|token| !token.is_empty());
    let yes = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
    HubSettings {
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
        token: token.map(Secret::new),
        cache: model.cache.clone().or_else(|| variable("HF_HUB_CACHE").map(PathBuf::from)).unwrap_or(home.join("hub")),
        offline: model.offline || variable("HF_HUB_OFFLINE").is_some_and(yes),
    }
}

/// Where traces go: `observe.otlp`, and where it is silent the standard variables of OpenTelemetry. `None`: nowhere.
///
/// # Errors
/// If a variable asks for what cannot be done.
pub fn otlp_settings(config: &Config) -> Result<Option<OtlpSettings>, ConfigError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    otlp_from(config.observe.as_ref().and_then(|observe| observe.otlp.as_ref()), &variable)
}

fn otlp_from(
    config: Option<&OtlpConfig>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<OtlpSettings>, ConfigError> {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let is = |name: &str, value: &str| variable(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    let wrong = |name: &str, message: String| ConfigError {
        place: format!("environment variable {name}"),
        key: String::new(),
        message,
    };
    let checked = |name: &str| match variable(name) {
        Some(endpoint) => {
            otlp::check_endpoint(&endpoint).map(|()| Some(endpoint)).map_err(|message| wrong(name, message))
        }
        None => Ok(None),
    };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let url = match config.and_then(|config| config.endpoint.as_deref()) {
        Some(endpoint) => otlp::url(endpoint),
        None => match (checked(TRACES_ENDPOINT)?, checked(ENDPOINT)?) {
            (Some(whole), _) => whole,
            (None, Some(endpoint)) => otlp::url(&endpoint),
            (None, None) if config.is_some() => {
                let message = format!("is missing; give the collector's address there or as {ENDPOINT}");
                return Err(ConfigError { place: String::new(), key: "observe.otlp.endpoint".into(), message });
            }
            (None, None) => return Ok(None),
        },
    };
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(other) = variable(name).filter(|protocol| protocol != "http/protobuf") {
            return Err(wrong(
                name,
                format!("traces are sent as http/protobuf, not as {other}; the port is often 4318"),
            ));
        }
    }
    let config = config.cloned().unwrap_or_default();
    let service_name = config.service_name.or_else(|| variable("OTEL_SERVICE_NAME"));
    Ok(Some(OtlpSettings {
        url,
        headers: config.headers,
        service_name: service_name.unwrap_or_else(|| "embedmill".into()),
        sample_ratio: config.sample_ratio,
    }))
}

/// What the user asked of the logs, as in `EMBEDMILL_LOG=debug` or `embedmill::source=trace`.
pub fn log_filter() -> Option<String> {
    std::env::var("EMBEDMILL_LOG").ok().filter(|filter| !filter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_where_the_file_says_and_else_the_environment() {
        let of = |config: Option<OtlpConfig>, variables: &[(&str, &str)]| {
            let find =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
            otlp_from(config.as_ref(), &find)
        };
        let url = |config: Option<OtlpConfig>, variables: &[(&str, &str)]| {
            of(config, variables)
                .map(|settings| settings.map(|settings| settings.url))
                .map_err(|error| error.to_string())
        };
        let at = |endpoint: &str| Some(OtlpConfig { endpoint: Some(endpoint.into()), ..OtlpConfig::default() });
        let (general, traces) =
            (("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/x"));
        assert_eq!(url(None, &[]), Ok(None));
        assert_eq!(url(None, &[general]), Ok(Some("http://a:1/v1/traces".into())));
        assert_eq!(url(None, &[general, traces]), Ok(Some("http://b/x".into())));
        assert_eq!(url(at("http://c:1"), &[general, traces]), Ok(Some("http://c:1/v1/traces".into())));
        assert_eq!(url(at("http://c:1"), &[("OTEL_SDK_DISABLED", "true")]), Ok(None));
        assert_eq!(url(Some(OtlpConfig::default()), &[general]), Ok(Some("http://a:1/v1/traces".into())));
        assert!(
            url(Some(OtlpConfig::default()), &[])
                .is_err_and(|error| error.contains("observe.otlp.endpoint: is missing"))
        );
        assert!(
            url(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4317")]).is_err_and(|error| error.contains("variable OTEL"))
        );
        assert!(
            url(None, &[general, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err_and(|error| error.contains("4318"))
        );
        let named = of(None, &[general, ("OTEL_SERVICE_NAME", "mill")]).expect("it is right").expect("it is on");
        assert_eq!((named.service_name.as_str(), named.sample_ratio), ("mill", 1.0));
    }
}

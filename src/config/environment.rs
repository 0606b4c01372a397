//! Settings that come from environment variables: of the Hugging Face tools, of OpenTelemetry, and of the log.

use std::path::PathBuf;

use super::error::ConfigError;
use super::file::Config;
use crate::model::ModelConfig;
use crate::model::hub::{HubSettings, Secret};
use crate::telemetry::otlp::{self, OtlpConfig, OtlpSettings};

/// The settings for the model hub: the environment variables of the Hugging Face tools, overridden by `model.cache` and
/// `model.offline`.
pub(crate) fn hub_settings(model: &ModelConfig) -> HubSettings {
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

/// The settings for the export of traces: `observe.otlp`, completed by the standard environment variables of
/// OpenTelemetry. `None` if traces are not exported.
///
/// # Errors
/// If no endpoint is given, or a variable asks for something that is not supported.
pub(crate) fn otlp_settings(config: &Config) -> Result<Option<OtlpSettings>, ConfigError> {
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
        location: format!("environment variable {name}"),
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
                let message = format!(
                    "missing; expected the collector's address, such as http://localhost:4318 (or set the environment \
                     variable {ENDPOINT})"
                );
                return Err(ConfigError { location: String::new(), key: "observe.otlp.endpoint".into(), message });
            }
            (None, None) => return Ok(None),
        },
    };
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(other) = variable(name).filter(|protocol| protocol != "http/protobuf") {
            return Err(wrong(
                name,
                format!("found {other:?}; expected http/protobuf (the collector's port for it is usually 4318)"),
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

/// The log filter from the environment, such as `EMBEDMILL_LOG=debug`; `None` if it is unset or empty.
pub(crate) fn log_filter() -> Option<String> {
    std::env::var("EMBEDMILL_LOG").ok().filter(|filter| !filter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_takes_precedence_over_the_environment_for_traces() {
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
                .is_err_and(|error| error.contains("observe.otlp.endpoint: missing; expected"))
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

//! The pipeline file: layers of YAML, environment and command line into one typed [`Config`].
//!
//! Each stage defines its own section beside its code; this file only puts them together. Layers, later ones winning:
//! defaults, files in the order given, `EMBEDMILL__A__B` from the environment, `--set a.b=v`. `${VAR}`, `${VAR:-default}`
//! and `${VAR:?message}` are expanded in string values. The environment is read here and nowhere else.

mod aliases;
mod keys;
mod layers;
mod variables;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::BatchConfig;
use crate::dead_letter::DeadLetterConfig;
use crate::delivery::Promise;
use crate::encode::ModelConfig;
use crate::encode::hub::{HubSettings, Secret};
use crate::sink::{OutputConfig, SinkConfig};
use crate::source::SourceConfig;
use crate::telemetry::ObserveConfig;
use crate::text::field::RecordConfig;
use crate::window::WindowConfig;

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
    pub delivery: Promise,
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
            delivery: Promise::default(),
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

/// What the user asked of the logs, as in `EMBEDMILL_LOG=debug` or `embedmill::source=trace`.
pub fn log_filter() -> Option<String> {
    std::env::var("EMBEDMILL_LOG").ok().filter(|filter| !filter.is_empty())
}

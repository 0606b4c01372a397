//! The whole pipeline file: all sections with their defaults, and its JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source_and_sink::{DeadLetterConfig, SinkConfig, SourceConfig};
use crate::batch::BatchConfig;
use crate::delivery::DeliveryGuarantee;
use crate::model::ModelConfig;
use crate::output::OutputConfig;
use crate::telemetry::ObserveConfig;
use crate::text::field::RecordConfig;
use crate::window::WindowConfig;

/// A pipeline file after parsing. [`crate::plan::Plan`] is the same after all checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where records are read from. Exactly one source is required.
    pub source: SourceConfig,
    /// The fields of a record that become its id, its text and additional columns.
    pub record: RecordConfig,
    /// Limits of a window: the records that are batched, encoded and delivered together.
    pub window: WindowConfig,
    /// Limits of a micro-batch: the rows that go through the model in one forward pass.
    pub batch: BatchConfig,
    /// The model that turns texts into vectors.
    pub model: ModelConfig,
    /// The devices, with one worker each: cpu, cuda:0, cuda:1, …. cpu may be listed several times; its workers share the
    /// weights. auto means all GPUs, or without GPUs one CPU worker per core (at most 8). Default: `[auto]`.
    pub devices: Vec<String>,
    /// Where rows are written to. Exactly one sink is required.
    pub sink: SinkConfig,
    /// The columns of the output and the format of its vectors.
    pub output: OutputConfig,
    /// The delivery guarantee: at_least_once or exactly_once. exactly_once is possible from Kafka to Kafka within one
    /// cluster, and from files to Kafka with a checkpoint. From Kafka to a folder of files delivery is exactly once in any
    /// case. Default: at_least_once.
    pub delivery: DeliveryGuarantee,
    /// Where records that cannot be embedded are written to. Default: none, and the first such record stops the run.
    pub dead_letter: Option<DeadLetterConfig>,
    /// The time that a run may take to finish the records already read when it is asked to stop, in milliseconds.
    /// Records not published by then are abandoned: they are not committed. At least 1. Default: 25000.
    pub drain_ms: u64,
    /// Metrics, status and traces of the run. Default: none.
    pub observe: Option<ObserveConfig>,
    /// The log filter: error, warn, info, debug, trace or off, or a list by module such as `info,embedmill::source=debug`.
    /// The environment variable EMBEDMILL_LOG takes precedence. Default: info.
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
            // Below the 30 s that Kubernetes grants a pod for termination by default.
            drain_ms: 25_000,
            observe: None,
            log: None,
        }
    }
}

/// The JSON Schema of the pipeline file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

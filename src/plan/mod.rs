//! The plan: a [`Config`] checked as a whole. What holds it can trust it.
//!
//! Making a plan touches neither disk nor network; what only the machine can say (are the files there, does the model
//! load) is asked in [`crate::start`], still before any data moves.

mod ends;
mod explain;
mod kafka;
mod route;

use std::net::SocketAddr;
use std::time::Duration;

pub use ends::{DeadLetterPlan, LocalSink, SinkPlan, SourcePlan, TopicSink};
pub use route::Route;

use crate::batch::BatchConfig;
use crate::columnar::kept::KeptSchema;
use crate::config::Config;
use crate::delivery::DeliveryGuarantee;
use crate::device::Devices;
use crate::model::{LoadError, ModelConfig, ModelSpec, OutputValue};
use crate::output::OutputSchema;
use crate::output::quantize::{self, OutputPrecision, Quantizer, RangesConfig};
use crate::telemetry::logs;
use crate::telemetry::otlp::OtlpConfig;
use crate::text::field::RecordPlan;
use crate::window::WindowConfig;

/// Everything that a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub source: SourcePlan,
    pub record: RecordPlan,
    pub window: WindowConfig,
    /// Whether rows are awaited while records still come: from Kafka, and from standard input to standard output.
    pub live: bool,
    pub batch: BatchConfig,
    pub model: ModelConfig,
    pub devices: Devices,
    pub sink: SinkPlan,
    pub text_column: bool,
    pub precision: OutputPrecision,
    pub ranges: Option<RangesConfig>,
    pub guarantee: DeliveryGuarantee,
    pub dead_letter: Option<DeadLetterPlan>,
    /// How long a drain may take.
    pub drain_max: Duration,
    /// Where the run is watched.
    pub observe: Option<SocketAddr>,
    /// In words, what the pipeline file says of traces; the environment may say more.
    traces: Option<String>,
}

/// A contradiction, and the key to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct PlanError {
    pub key: String,
    pub message: String,
}

fn refuse<T>(key: &str, message: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { key: key.into(), message: message.into() })
}

/// Arrow counts the bytes of a string column in 32 bits, so a window's texts have to stay well below 2 GiB.
const WINDOW_BYTES_MAX: usize = 1 << 30;

impl Plan {
    pub fn new(config: &Config) -> Result<Self, PlanError> {
        let source = ends::source(&config.source)?;
        let record = RecordPlan::new(&config.record).or_else(|error| refuse(&error.key, error.message))?;
        kafka::check_ids(&source, &record)?;
        let sink = ends::sink(&config.sink, &source)?;
        check_window(&config.window, &source)?;
        for (key, value) in [("batch.tokens", config.batch.tokens), ("batch.rows", config.batch.rows)] {
            if value == 0 {
                return refuse(key, "expected at least 1, found 0");
            }
        }
        if config.drain_ms == 0 {
            return refuse("drain_ms", "expected at least 1, found 0");
        }
        if let Some(Err(message)) = config.log.as_deref().map(logs::check) {
            return refuse("log", message);
        }
        let model = ModelConfig { value: config.output.value, ..config.model.clone() };
        model.check().or_else(|error| match error {
            LoadError::Config { key, message } => refuse(key, message),
            other => refuse("model", other.to_string()),
        })?;
        let devices = Devices::parse(&config.devices).or_else(|error| refuse("devices", error.to_string()))?;
        let dead_letter =
            config.dead_letter.as_ref().map(|config| ends::dead_letter(config, &source, &sink)).transpose()?;
        let (precision, ranges) = (config.output.precision, config.output.ranges.clone());
        quantize::check(precision, ranges.as_ref()).or_else(|(key, message)| refuse(key, message))?;
        if config.output.value == OutputValue::TokenEmbeddings {
            if sink.is_ranges() {
                return refuse("output.value", "is token_embeddings; sink.ranges calibrates texts' vectors");
            }
            if precision != OutputPrecision::Float32 {
                let why = "token vectors are written as float32, since ranges are a text's vector's";
                return refuse(
                    "output.precision",
                    format!("is {precision}, but output.value is token_embeddings: {why}"),
                );
            }
        }
        if sink.is_ranges() && precision != OutputPrecision::Float32 {
            return refuse("output.precision", format!("is {precision}; sink.ranges calibrates float32 vectors"));
        }
        kafka::check_files(&source, &sink)?;
        Route::new(&source, &sink).check(config.delivery)?;
        let (source, sink, dead_letter) = ends::with_names_of_shards(source, sink, dead_letter);
        let observe = config.observe.as_ref().map(|observe| observe.address()).transpose();
        let observe = observe.or_else(|message| refuse("observe.listen", message))?.flatten();
        if let Some(otlp) = config.observe.as_ref().and_then(|observe| observe.otlp.as_ref()) {
            otlp.check().or_else(|(key, message)| refuse(&format!("observe.otlp.{key}"), message))?;
        }
        let live = match &source {
            SourcePlan::Files(files) => {
                files.paths.iter().any(|path| path == "-") && matches!(sink, SinkPlan::Local(LocalSink::Stdout(_)))
            }
            SourcePlan::Kafka(_) => true,
        };
        Ok(Plan {
            source,
            record,
            window: config.window.clone(),
            live,
            batch: config.batch.clone(),
            model,
            devices,
            sink,
            text_column: config.output.text,
            precision,
            ranges,
            guarantee: config.delivery,
            dead_letter,
            drain_max: Duration::from_millis(config.drain_ms),
            observe,
            traces: config.observe.as_ref().and_then(|observe| observe.otlp.as_ref()).map(OtlpConfig::describe),
        })
    }

    /// Refuses token vectors of which the model's longest text has more than memory is there for. Texts' own vectors need no
    /// such check: a text over a budget of tokens is a window, and a batch, by itself.
    pub fn check_model(&self, spec: &ModelSpec) -> Result<(), PlanError> {
        let (weight, most) = (spec.max_seq_length * token_bytes(spec), self.window.in_flight_bytes);
        if spec.value == OutputValue::TokenEmbeddings && weight > most {
            let message = format!(
                "{most} bytes do not hold the {weight} of the longest text's token vectors; raise it, or lower \
                 model.max_seq_length"
            );
            return refuse("window.in_flight_bytes", message);
        }
        Ok(())
    }

    /// The kinds of its two ends.
    pub fn route(&self) -> Route<'_> {
        Route::new(&self.source, &self.sink)
    }

    /// The windows of a run with this model. Token vectors are so many bytes that a window has fewer tokens: of the four that
    /// can be between the device and the sink, each takes a quarter of what may be in flight, or one text's.
    pub fn window(&self, spec: &ModelSpec) -> WindowConfig {
        WindowConfig { tokens: self.window.tokens.min(self.window_tokens_max(spec)), ..self.window.clone() }
    }

    /// Most tokens of a window, whatever the window's own limit is changed to.
    pub fn window_tokens_max(&self, spec: &ModelSpec) -> usize {
        match spec.value {
            OutputValue::SentenceEmbedding => usize::MAX,
            OutputValue::TokenEmbeddings => {
                (self.window.in_flight_bytes / 4 / token_bytes(spec)).max(spec.max_seq_length)
            }
        }
    }

    /// The columns of the output. `provenance` goes into its metadata.
    pub fn output(
        &self,
        spec: &ModelSpec,
        kept: &KeptSchema,
        provenance: &[(String, String)],
        quantizer: Quantizer,
    ) -> OutputSchema {
        match spec.value {
            OutputValue::SentenceEmbedding => {
                OutputSchema::quantized(spec.dim, self.text_column, kept, provenance, quantizer)
            }
            OutputValue::TokenEmbeddings => OutputSchema::of_tokens(spec.dim, self.text_column, kept, provenance),
        }
    }
}

/// A token's vector as it comes from the encoder and again in the window's column.
fn token_bytes(spec: &ModelSpec) -> usize {
    2 * spec.dim * size_of::<f32>()
}

fn check_window(window: &WindowConfig, source: &SourcePlan) -> Result<(), PlanError> {
    let limits = [("tokens", window.tokens), ("records", window.records), ("bytes", window.bytes)];
    for (key, value) in limits {
        if value == 0 {
            return refuse(&format!("window.{key}"), "expected at least 1, found 0");
        }
    }
    if window.bytes > WINDOW_BYTES_MAX {
        return refuse("window.bytes", format!("{} is over the limit of {WINDOW_BYTES_MAX}", window.bytes));
    }
    if let Some(record_bytes_max) = source.record_bytes_max().filter(|bytes| window.in_flight_bytes < *bytes) {
        let message = format!(
            "{} is too small: one record of source.files.record_bytes_max {record_bytes_max} would not fit",
            window.in_flight_bytes
        );
        return refuse("window.in_flight_bytes", message);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

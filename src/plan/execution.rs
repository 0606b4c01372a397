//! The execution plan: all settings of a run, and what they mean together with a model.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::{PlanError, refuse};
use super::route::Route;
use super::source_and_sink::{DeadLetterPlan, LocalSink, SinkPlan, SourcePlan};
use super::{kafka, sections};
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
    /// Where records are read from.
    pub source: SourcePlan,
    /// The fields of a record that become id, text and columns.
    pub record: RecordPlan,
    /// Limits of a window.
    pub window: WindowConfig,
    /// Whether someone waits for rows while records still arrive: with Kafka as source, and from standard input to
    /// standard output. Windows then also close by age.
    pub live: bool,
    /// Limits of a micro-batch.
    pub batch: BatchConfig,
    /// The model.
    pub model: ModelConfig,
    /// The devices, one worker each.
    pub devices: Devices,
    /// Where rows are written to.
    pub sink: SinkPlan,
    /// Whether the output has the column `text`.
    pub text_column: bool,
    /// The data type of the output's vectors.
    pub precision: OutputPrecision,
    /// The quantization ranges of int8 and uint8.
    pub ranges: Option<RangesConfig>,
    /// The delivery guarantee.
    pub guarantee: DeliveryGuarantee,
    /// Where rejected records are written to; `None` if the first one stops the run.
    pub dead_letter: Option<DeadLetterPlan>,
    /// How long a drain may take.
    pub drain_max: Duration,
    /// The address of the HTTP endpoint; `None` if there is none.
    pub observe: Option<SocketAddr>,
    /// SHA-256 of the sections that decide which rows there are, how they are cut into files and what is in them: `record`,
    /// `window`, `output` and `sink`, by the keys and values of the pipeline file.
    pub(crate) rows_sha256: [u8; 32],
    /// The description of `observe.otlp`. Whether traces are exported depends on the environment too.
    pub(super) traces: Option<String>,
}

impl Plan {
    /// Checks the configuration as a whole.
    ///
    /// # Errors
    /// The first invalid value or combination.
    pub fn new(config: &Config) -> Result<Self, PlanError> {
        let source = sections::source(&config.source)?;
        let record = RecordPlan::new(&config.record).or_else(|error| refuse(&error.key, error.message))?;
        kafka::check_ids(&source, &record)?;
        let sink = sections::sink(&config.sink, &source)?;
        sections::check_window(&config.window, &source)?;
        sections::check_not_zero([("batch.tokens", config.batch.tokens), ("batch.rows", config.batch.rows)])?;
        if config.drain_ms == 0 {
            return refuse("drain_ms", "found 0; expected at least 1");
        }
        if let Some(Err(message)) = config.log.as_deref().map(logs::check) {
            return refuse("log", message);
        }
        let model = ModelConfig { value: config.output.value, ..config.model.clone() };
        model.check().or_else(|error| match error {
            LoadError::Config { key, message } => refuse(key, message),
            other => refuse("model", other.to_string()),
        })?;
        let devices = Devices::parse(&config.devices).or_else(|error| {
            let message = error.to_string();
            refuse("devices", message.strip_prefix("devices: ").unwrap_or(&message))
        })?;
        let dead_letter =
            config.dead_letter.as_ref().map(|config| sections::dead_letter(config, &source, &sink)).transpose()?;
        let (precision, ranges) = (config.output.precision, config.output.ranges.clone());
        quantize::check(precision, ranges.as_ref()).or_else(|(key, message)| refuse(key, message))?;
        sections::check_output(config.output.value, precision, &sink)?;
        kafka::check_files(&source, &sink)?;
        Route::new(&source, &sink).check(config.delivery)?;
        let (source, sink, dead_letter) = sections::with_shard_names(source, sink, dead_letter);
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
        let of_rows = serde_json::json!([config.record, config.window, config.output, config.sink]);
        Ok(Plan {
            rows_sha256: Sha256::digest(of_rows.to_string()).into(),
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

    /// Checks that the memory budget can hold the token vectors of the longest text that the model accepts. Vectors of whole
    /// texts need no such check, because their size does not depend on the text.
    ///
    /// # Errors
    /// If `window.in_flight_bytes` is too small.
    pub fn check_model(&self, spec: &ModelSpec) -> Result<(), PlanError> {
        let (bytes, bytes_max) = (spec.max_seq_length * token_bytes(spec), self.window.in_flight_bytes);
        if spec.value == OutputValue::TokenEmbeddings && bytes > bytes_max {
            let message = format!(
                "found {bytes_max}; expected at least {bytes} bytes for the token vectors of the longest text (raise it, or \
                 lower model.max_seq_length)"
            );
            return refuse("window.in_flight_bytes", message);
        }
        Ok(())
    }

    /// The combination of source and sink.
    pub fn route(&self) -> Route<'_> {
        Route::new(&self.source, &self.sink)
    }

    /// The limits of windows with this model, with fewer tokens per window if token vectors are written.
    pub fn window(&self, spec: &ModelSpec) -> WindowConfig {
        WindowConfig { tokens: self.window.tokens.min(self.window_tokens_max(spec)), ..self.window.clone() }
    }

    /// The maximum number of tokens per window that memory allows with this model, regardless of `window.tokens`, which can
    /// be changed by a reload. Token vectors are large: of up to four windows between the device and the sink each may
    /// take a quarter of `window.in_flight_bytes`, but at least one text of maximum length must fit.
    pub fn window_tokens_max(&self, spec: &ModelSpec) -> usize {
        match spec.value {
            OutputValue::SentenceEmbedding => usize::MAX,
            OutputValue::TokenEmbeddings => {
                (self.window.in_flight_bytes / 4 / token_bytes(spec)).max(spec.max_seq_length)
            }
        }
    }

    /// The schema of the output; `provenance` becomes its metadata.
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

/// Bytes of one token's vector, which exists twice: as the encoder's result and in the window's output column.
fn token_bytes(spec: &ModelSpec) -> usize {
    2 * spec.dim * size_of::<f32>()
}

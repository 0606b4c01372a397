//! The plan: a [`Config`] checked as a whole. What holds it can trust it.
//!
//! Making a plan touches neither disk nor network; what only the machine can say (are the files there, does the model
//! load) is asked in [`crate::start`], still before any data moves.

mod kafka;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::batch::BatchConfig;
use crate::columnar::kept::KeptSchema;
use crate::columnar::output::OutputSchema;
use crate::config::Config;
use crate::dead_letter::DeadLetterConfig;
use crate::delivery::Promise;
use crate::encode::device::Devices;
use crate::encode::modules::ModelSpec;
use crate::encode::{Backend, LoadError, ModelConfig, OutputValue};
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig, Layout, Properties};
use crate::quantize::{self, OutputPrecision, Quantizer, RangesConfig};
use crate::sink::SinkConfig;
use crate::sink::file::{FileSinkConfig, Target};
use crate::sink::format::FileFormat;
use crate::sink::stdout::StdoutConfig;
use crate::source::SourceConfig;
use crate::source::file::FilesConfig;
use crate::telemetry::otlp::OtlpConfig;
use crate::telemetry::{logs, observer};
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
    pub promise: Promise,
    pub dead_letter: Option<DeadLetterPlan>,
    /// How long a drain may take.
    pub drain_max: Duration,
    /// Where the run is watched.
    pub observe: Option<SocketAddr>,
    /// In words, what the pipeline file says of traces; the environment may say more.
    traces: Option<String>,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourcePlan {
    Files(FilesConfig),
    Kafka(KafkaSourceConfig),
}

/// Where rejected records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterPlan {
    File(PathBuf),
    Topic(String),
}

impl DeadLetterPlan {
    pub fn topic(&self) -> Option<&str> {
        match self {
            DeadLetterPlan::File(_) => None,
            DeadLetterPlan::Topic(topic) => Some(topic),
        }
    }
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkPlan {
    Files {
        format: FileFormat,
        target: Target,
    },
    Stdout(StdoutConfig),
    /// A calibration file.
    Ranges(PathBuf),
    /// With the cluster's own brokers and properties, or the source's.
    Kafka {
        config: KafkaSinkConfig,
        brokers: String,
        properties: Properties,
    },
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
        let source = source(&config.source)?;
        let record = RecordPlan::new(&config.record).or_else(|error| refuse(&error.key, error.message))?;
        kafka::check_ids(&source, &record)?;
        let sink = sink(&config.sink, &source)?;
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
        let dead_letter = config.dead_letter.as_ref().map(|config| dead_letter(config, &source, &sink)).transpose()?;
        let (precision, ranges) = (config.output.precision, config.output.ranges.clone());
        quantize::check(precision, ranges.as_ref()).or_else(|(key, message)| refuse(key, message))?;
        if config.output.value == OutputValue::TokenEmbeddings {
            if matches!(sink, SinkPlan::Ranges(_)) {
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
        if matches!(sink, SinkPlan::Ranges(_)) && precision != OutputPrecision::Float32 {
            return refuse("output.precision", format!("is {precision}; sink.ranges calibrates float32 vectors"));
        }
        kafka::check_files(&source, &sink)?;
        check_promise(config.delivery, &source, &sink)?;
        let (source, sink, dead_letter) = with_names_of_shards(source, sink, dead_letter);
        let observe = config.observe.as_ref().map(|observe| observe.address()).transpose();
        let observe = observe.or_else(|message| refuse("observe.listen", message))?.flatten();
        if let Some(otlp) = config.observe.as_ref().and_then(|observe| observe.otlp.as_ref()) {
            otlp.check().or_else(|(key, message)| refuse(&format!("observe.otlp.{key}"), message))?;
        }
        let live = match &source {
            SourcePlan::Files(files) => {
                files.paths.iter().any(|path| path == "-") && matches!(sink, SinkPlan::Stdout(_))
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
            promise: config.delivery,
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

    /// What is promised of every record.
    fn guarantee(&self) -> &'static str {
        match (self.promise, &self.source) {
            (_, SourcePlan::Kafka(_)) if matches!(self.sink, SinkPlan::Files { .. }) => {
                "exactly once: a partition's files are a chain, and positions follow it; dead letters at least once"
            }
            (Promise::ExactlyOnce, SourcePlan::Files(_)) => {
                "exactly once: rows, dead letters and the checkpoint are one transaction a window"
            }
            (Promise::ExactlyOnce, _) => "exactly once: rows, dead letters and positions are one transaction a window",
            (Promise::AtLeastOnce, SourcePlan::Kafka(_)) => "at least once: positions are committed after their rows",
            (Promise::AtLeastOnce, SourcePlan::Files(_)) => "each run reads the whole input",
        }
    }

    /// How vectors are written.
    fn vectors(&self) -> String {
        let ranges = match &self.ranges {
            None => String::new(),
            Some(RangesConfig::Same([least, most])) => format!(", {least} to {most} in 256 steps"),
            Some(RangesConfig::File(path)) => format!(", in 256 steps between the ranges of {}", path.display()),
        };
        let what = match self.model.value {
            OutputValue::SentenceEmbedding => "vectors",
            OutputValue::TokenEmbeddings => "a list of token vectors a text,",
        };
        format!("{what} as {}{ranges}", self.precision)
    }

    /// The plan, a line a stage. `spec` adds what the model's own files say.
    pub fn explain(&self, spec: Option<&ModelSpec>) -> String {
        self.lines(spec).iter().map(|(stage, line)| format!("{stage:<9}{line}\n")).collect()
    }

    /// The stages by name, and what each does.
    pub fn lines(&self, spec: Option<&ModelSpec>) -> Vec<(&'static str, String)> {
        let model = match (spec, self.model.backend, &self.model.id) {
            (Some(spec), ..) => spec.describe(),
            (None, Backend::Hash, None) => format!("hash of the words, dim {}", self.model.hash_dim),
            (None, _, id) => {
                let set = self.model.overrides();
                format!("{} at {} (not looked at){set}", id.as_deref().unwrap_or_default(), self.model.revision)
            }
        };
        let window = spec.map_or_else(|| self.window.clone(), |spec| self.window(spec));
        let WindowConfig { tokens, records, bytes, linger_ms, in_flight_bytes } = &window;
        let age = if self.live { format!(", {linger_ms} ms") } else { String::new() };
        let longest = spec.map(|spec| spec.max_seq_length).filter(|longest| *longest > self.batch.tokens);
        let alone = longest.map(|longest| format!(" or one text of up to {longest}")).unwrap_or_default();
        let mut lines = vec![
            ("source", self.source.describe()),
            ("record", self.record.describe()),
            (
                "window",
                format!(
                    "up to {tokens} tokens, {records} records, {}{age}; {} in flight",
                    mebibytes(*bytes),
                    mebibytes(*in_flight_bytes)
                ),
            ),
            ("batch", format!("by length, up to {} tokens{alone}, {} rows", self.batch.tokens, self.batch.rows)),
            ("model", model),
            ("devices", devices(&self.devices)),
            ("output", self.vectors()),
            ("sink", self.sink.describe(self.text_column)),
            (
                "rejected",
                match &self.dead_letter {
                    Some(DeadLetterPlan::File(path)) => format!("to {} (JSON lines), the run goes on", path.display()),
                    Some(DeadLetterPlan::Topic(topic)) => format!("to topic {topic}, the run goes on"),
                    None => "the first stops the run".into(),
                },
            ),
            ("delivery", self.guarantee().into()),
            ("drain", format!("up to {} s for what was read, when it is to stop", self.drain_max.as_secs_f64())),
        ];
        lines.extend(self.observe.map(|address| ("observe", format!("http://{address}: {}", observer::PATHS))));
        lines.extend(self.traces.as_ref().map(|traces| ("traces", traces.clone())));
        lines
    }
}

impl SourcePlan {
    fn describe(&self) -> String {
        match self {
            SourcePlan::Files(files) => {
                let shard = files.shard.map(|shard| format!(", {shard}")).unwrap_or_default();
                format!("files {} ({}){shard}", files.paths.join(", "), files.format.as_str())
            }
            SourcePlan::Kafka(kafka) => {
                let KafkaSourceConfig { brokers, topics, group, format, start, until_end, .. } = kafka;
                let end = if *until_end { ", until their ends" } else { "" };
                let format = format!("{format:?}").to_lowercase();
                let (topics, start) = (topics.join(", "), start.as_str());
                format!("kafka topics {topics} of {brokers} as {format}, group {group} from {start}{end}")
            }
        }
    }

    /// Most bytes that one record may have; `None` where the source's own limits hold.
    fn record_bytes_max(&self) -> Option<usize> {
        match self {
            SourcePlan::Files(files) => Some(files.record_bytes_max),
            SourcePlan::Kafka(_) => None,
        }
    }
}

impl SinkPlan {
    /// Whether it can say that a record is deleted.
    pub fn takes_deletes(&self) -> bool {
        matches!(self, SinkPlan::Kafka { config, .. } if config.layout == Layout::Row)
    }

    fn describe(&self, text: bool) -> String {
        let columns = if text { "with text" } else { "without text" };
        match self {
            SinkPlan::Kafka { config, brokers, .. } => {
                let layout = match config.layout {
                    Layout::Batch => "Arrow batches",
                    Layout::Row => "a row a message",
                };
                format!("kafka topic {} of {brokers}, {layout}, {columns}", config.topic)
            }
            SinkPlan::Ranges(path) => format!("calibration file {}, no rows", path.display()),
            SinkPlan::Stdout(config) => format!("standard output as {:?}, {columns}", config.format).to_lowercase(),
            SinkPlan::Files { format, target: Target::File(path) } => {
                format!("{format:?} file {}, {columns}; appears whole when done", path.display())
            }
            SinkPlan::Files { format, target: Target::Folder { path, file_rows, .. } } => {
                format!("{format:?} files of {file_rows} rows in {}, {columns}; each appears whole", path.display())
            }
        }
    }
}

/// A token's vector as it comes from the encoder and again in the window's column.
fn token_bytes(spec: &ModelSpec) -> usize {
    2 * spec.dim * size_of::<f32>()
}

fn devices(devices: &Devices) -> String {
    match devices {
        Devices::Auto => "all GPUs, else the CPU with a worker a core".into(),
        Devices::List(list) => {
            list.iter().map(|device| device.to_string()).collect::<Vec<_>>().join(", ") + "; one worker each"
        }
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn source(config: &SourceConfig) -> Result<SourcePlan, PlanError> {
    match (&config.files, &config.kafka) {
        (Some(files), None) => {
            files.check().or_else(|(key, message)| refuse(&format!("source.files.{key}"), message))?;
            Ok(SourcePlan::Files(files.clone()))
        }
        (None, Some(kafka)) => kafka::source(kafka).map(SourcePlan::Kafka),
        (None, None) => refuse("source", "no source is given; expected one of files, kafka"),
        (Some(_), Some(_)) => refuse("source", "more than one source is given; expected one of files, kafka"),
    }
}

/// Gives a shard's checkpoint and the single files that it writes names of their own. Folders need none: their files are
/// named by positions, which are of one shard only.
fn with_names_of_shards(
    mut source: SourcePlan,
    mut sink: SinkPlan,
    mut dead_letter: Option<DeadLetterPlan>,
) -> (SourcePlan, SinkPlan, Option<DeadLetterPlan>) {
    if let SourcePlan::Files(FilesConfig { shard: Some(shard), checkpoint, .. }) = &mut source {
        *checkpoint = checkpoint.take().map(|name| shard.name(&name));
        if let SinkPlan::Files { target: Target::File(path), .. } | SinkPlan::Ranges(path) = &mut sink {
            *path = shard.path(path);
        }
        if let Some(DeadLetterPlan::File(path)) = &mut dead_letter {
            *path = shard.path(path);
        }
    }
    (source, sink, dead_letter)
}

fn sink(config: &SinkConfig, source: &SourcePlan) -> Result<SinkPlan, PlanError> {
    let files = |key: &str, format, FileSinkConfig { path, file_rows, file_seconds }: &FileSinkConfig| {
        if path.is_empty() {
            return refuse(&format!("sink.{key}.path"), "expected a file's name, or a folder's that ends with /");
        }
        if *file_rows == 0 {
            return refuse(&format!("sink.{key}.file_rows"), "expected at least 1, found 0");
        }
        if *file_seconds == 0 {
            return refuse(&format!("sink.{key}.file_seconds"), "expected at least 1, found 0");
        }
        Ok(SinkPlan::Files { format, target: Target::new(path, *file_rows, *file_seconds) })
    };
    match (&config.arrow, &config.parquet, &config.stdout, &config.kafka, &config.ranges) {
        (Some(arrow), None, None, None, None) => files("arrow", FileFormat::Arrow, arrow),
        (None, Some(parquet), None, None, None) => files("parquet", FileFormat::Parquet, parquet),
        (None, None, Some(stdout), None, None) => Ok(SinkPlan::Stdout(stdout.clone())),
        (None, None, None, Some(kafka), None) => kafka::sink(kafka, source),
        (None, None, None, None, Some(ranges)) if ranges.path.as_os_str().is_empty() => {
            refuse("sink.ranges.path", "expected a file's name")
        }
        (None, None, None, None, Some(ranges)) => Ok(SinkPlan::Ranges(ranges.path.clone())),
        (None, None, None, None, None) => {
            refuse("sink", "no sink is given; expected one of arrow, parquet, stdout, kafka, ranges")
        }
        _ => refuse("sink", "more than one sink is given; expected one of arrow, parquet, stdout, kafka, ranges"),
    }
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

fn dead_letter(config: &DeadLetterConfig, source: &SourcePlan, sink: &SinkPlan) -> Result<DeadLetterPlan, PlanError> {
    match (&config.path, &config.topic, sink) {
        (Some(path), None, _) if path.as_os_str().is_empty() => refuse("dead_letter.path", "expected a file's name"),
        (Some(path), None, SinkPlan::Files { target: Target::File(output), .. } | SinkPlan::Ranges(output))
            if path == output =>
        {
            refuse("dead_letter.path", "is the same file as the sink's; the later one would replace the other")
        }
        (Some(_), None, _) if matches!(source, SourcePlan::Kafka(_)) => refuse(
            "dead_letter.path",
            "a later run would replace the file, though its positions are committed; name a topic",
        ),
        (Some(_), None, _) if matches!(source, SourcePlan::Files(files) if files.checkpoint.is_some()) => {
            refuse("dead_letter.path", "a run that goes on from the checkpoint would replace the file; name a topic")
        }
        (Some(path), None, _) => Ok(DeadLetterPlan::File(path.clone())),
        (None, Some(topic), sink) => kafka::dead_letter(topic, source, sink),
        (None, None, _) => refuse("dead_letter", "expected `path: FILE` or `topic: TOPIC`"),
        (Some(_), Some(_), _) => refuse("dead_letter", "expected one of path and topic, found both"),
    }
}

/// Refuses what the source and the sink cannot promise together.
fn check_promise(promise: Promise, source: &SourcePlan, sink: &SinkPlan) -> Result<(), PlanError> {
    let checkpoint = match source {
        SourcePlan::Files(files) => files.checkpoint.as_deref(),
        SourcePlan::Kafka(_) => None,
    };
    match (promise, source, sink) {
        (Promise::ExactlyOnce, SourcePlan::Files(_), SinkPlan::Kafka { .. }) if checkpoint.is_some() => Ok(()),
        (Promise::ExactlyOnce, SourcePlan::Files(_), SinkPlan::Kafka { .. }) => refuse(
            "source.files.checkpoint",
            "is needed for exactly_once: a name under which the sink's cluster keeps how far this has come",
        ),
        _ if checkpoint.is_some() => refuse(
            "source.files.checkpoint",
            "needs `sink.kafka` and `delivery: exactly_once`, whose transactions keep it",
        ),
        (Promise::AtLeastOnce, ..) => Ok(()),
        (Promise::ExactlyOnce, SourcePlan::Kafka(kafka), SinkPlan::Kafka { brokers, .. }) => {
            if kafka.brokers != *brokers {
                return refuse(
                    "delivery",
                    "exactly_once needs source and sink in one cluster: a transaction spans no two",
                );
            }
            Ok(())
        }
        (Promise::ExactlyOnce, SourcePlan::Kafka(_), SinkPlan::Files { .. }) => Ok(()),
        (Promise::ExactlyOnce, ..) => refuse(
            "delivery",
            "exactly_once is promised from a Kafka topic to a Kafka topic, where rows and positions are one transaction, \
             and to a folder, where files tell what they hold; expected at_least_once with this source and sink",
        ),
    }
}

#[cfg(test)]
mod tests;

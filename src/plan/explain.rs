//! The execution plan as text: one line per stage, for `explain`, `/status` and the graph.

use super::execution::Plan;
use super::source_and_sink::{DeadLetterPlan, LocalSink, SinkPlan, SourcePlan, TopicSink};
use crate::device::Devices;
use crate::kafka::config::{KafkaSourceConfig, Layout};
use crate::model::{Backend, ModelSpec, OutputValue};
use crate::output::quantize::RangesConfig;
use crate::sink::file::Target;
use crate::telemetry::observer;
use crate::window::WindowConfig;

impl Plan {
    /// The line of the stage `output`: how vectors are written.
    fn describe_output(&self) -> String {
        let ranges = match &self.ranges {
            None => String::new(),
            Some(RangesConfig::Same([min, max])) => format!(", quantized in 256 steps from {min} to {max}"),
            Some(RangesConfig::File(path)) => format!(", quantized in 256 steps by the ranges of {}", path.display()),
        };
        let what = match self.model.value {
            OutputValue::SentenceEmbedding => "vectors",
            OutputValue::TokenEmbeddings => "one list of token vectors per text,",
        };
        format!("{what} as {}{ranges}", self.precision)
    }

    /// The plan as text, one line per stage. With `spec` it includes what the model's files say.
    pub fn explain(&self, spec: Option<&ModelSpec>) -> String {
        self.lines(spec).iter().map(|(stage, line)| format!("{stage:<9}{line}\n")).collect()
    }

    /// The stages with a description of each.
    pub fn lines(&self, spec: Option<&ModelSpec>) -> Vec<(&'static str, String)> {
        let model = match (spec, self.model.backend, &self.model.id) {
            (Some(spec), ..) => spec.describe(),
            (None, Backend::Hash, None) => format!("hash of the words, {} dims", self.model.hash_dim),
            (None, _, id) => {
                let overrides = self.model.overrides();
                format!("{} at {} (files not read){overrides}", id.as_deref().unwrap_or_default(), self.model.revision)
            }
        };
        let window = spec.map_or_else(|| self.window.clone(), |spec| self.window(spec));
        let WindowConfig { tokens, records, bytes, linger_ms, in_flight_bytes } = &window;
        let age = if self.live { format!(", {linger_ms} ms") } else { String::new() };
        let longest = spec.map(|spec| spec.max_seq_length).filter(|longest| *longest > self.batch.tokens);
        let alone = longest.map(|longest| format!(", or one longer text of up to {longest}")).unwrap_or_default();
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
            ("output", self.describe_output()),
            ("sink", self.sink.describe(self.text_column)),
            (
                "rejected",
                match &self.dead_letter {
                    Some(DeadLetterPlan::File(path)) => {
                        format!("to {} (JSON lines); the run continues", path.display())
                    }
                    Some(DeadLetterPlan::Topic(topic)) => format!("to topic {topic}; the run continues"),
                    None => "the first one stops the run".into(),
                },
            ),
            ("delivery", self.route().describe_guarantee(self.guarantee).into()),
            ("drain", format!("up to {} s to finish records already read", self.drain_max.as_secs_f64())),
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
                let end = if *until_end { ", until the end of the topics" } else { "" };
                let format = format!("{format:?}").to_lowercase();
                let (topics, start) = (topics.join(", "), start.as_str());
                format!("kafka topics {topics} of {brokers} as {format}, group {group} from {start}{end}")
            }
        }
    }
}

impl SinkPlan {
    fn describe(&self, text: bool) -> String {
        let columns = if text { "with text" } else { "without text" };
        match self {
            SinkPlan::Kafka(TopicSink { config, cluster }) => {
                let layout = match config.layout {
                    Layout::Batch => "Arrow batches",
                    Layout::Row => "one row per message",
                };
                format!("kafka topic {} of {}, {layout}, {columns}", config.topic, cluster.brokers)
            }
            SinkPlan::Local(LocalSink::Ranges(path)) => format!("calibration file {}, no rows", path.display()),
            SinkPlan::Local(LocalSink::Stdout(config)) => {
                format!("standard output as {:?}, {columns}", config.format).to_lowercase()
            }
            SinkPlan::Local(LocalSink::Files { format, target: Target::File(path) }) => {
                format!("{format:?} file {}, {columns}; appears when complete", path.display())
            }
            SinkPlan::Local(LocalSink::Files { format, target: Target::Folder { path, file_rows, .. } }) => {
                format!(
                    "{format:?} files of {file_rows} rows in {}, {columns}; each appears when complete",
                    path.display()
                )
            }
        }
    }
}

fn devices(devices: &Devices) -> String {
    match devices {
        Devices::Auto => "all GPUs, or else the CPU with one worker per core".into(),
        Devices::List(list) => {
            list.iter().map(|device| device.to_string()).collect::<Vec<_>>().join(", ") + "; one worker each"
        }
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

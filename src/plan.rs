//! The plan: a [`Config`] checked as a whole. What holds it can trust it.
//!
//! Making a plan touches neither disk nor network; what only the machine can say (are the files there, does the model
//! load) is asked in [`crate::start`], still before any data moves.

use std::path::{Path, PathBuf};

use crate::batch::BatchConfig;
use crate::config::Config;
use crate::encode::device::Devices;
use crate::encode::modules::ModelSpec;
use crate::encode::{Backend, LoadError, ModelConfig};
use crate::sink::SinkConfig;
use crate::sink::file::{FileFormat, Target};
use crate::sink::stdout::StdoutConfig;
use crate::source::file::FilesConfig;
use crate::text::field::RecordPlan;
use crate::window::WindowConfig;

/// Everything that a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub source: FilesConfig,
    pub record: RecordPlan,
    pub window: WindowConfig,
    /// Whether rows are awaited while records still come: standard input to standard output.
    pub live: bool,
    pub batch: BatchConfig,
    pub model: ModelConfig,
    pub devices: Devices,
    pub sink: SinkPlan,
    pub text_column: bool,
    pub dead_letter: Option<PathBuf>,
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkPlan {
    Files { format: FileFormat, target: Target },
    Stdout(StdoutConfig),
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
        let Some(source) = config.source.files.clone() else {
            return refuse("source", "no source is given; expected `files: { paths: [...] }`");
        };
        source.check().or_else(|(key, message)| refuse(&format!("source.files.{key}"), message))?;
        let record = RecordPlan::new(&config.record).or_else(|error| refuse(&error.key, error.message))?;
        let sink = sink(&config.sink)?;
        check_window(&config.window, &source)?;
        for (key, value) in [("batch.tokens", config.batch.tokens), ("batch.rows", config.batch.rows)] {
            if value == 0 {
                return refuse(key, "expected at least 1, found 0");
            }
        }
        config.model.check().or_else(|error| match error {
            LoadError::Config { key, message } => refuse(key, message),
            other => refuse("model", other.to_string()),
        })?;
        let devices = Devices::parse(&config.devices).or_else(|error| refuse("devices", error.to_string()))?;
        let dead_letter = config.dead_letter.as_ref().map(|config| config.path.clone());
        check_dead_letter(dead_letter.as_deref(), &sink)?;
        let live = source.paths.iter().any(|path| path == "-") && matches!(sink, SinkPlan::Stdout(_));
        Ok(Plan {
            source,
            record,
            window: config.window.clone(),
            live,
            batch: config.batch.clone(),
            model: config.model.clone(),
            devices,
            sink,
            text_column: config.output.text,
            dead_letter,
        })
    }

    /// Refuses budgets that the model's longest text would not fit.
    pub fn check_model(&self, spec: &ModelSpec) -> Result<(), PlanError> {
        let longest = spec.max_seq_length;
        for (key, tokens) in [("batch.tokens", self.batch.tokens), ("window.tokens", self.window.tokens)] {
            if tokens < longest {
                let message = format!(
                    "{tokens} tokens are fewer than the {longest} of the longest text that the model takes; raise it, \
                     or lower model.max_seq_length"
                );
                return refuse(key, message);
            }
        }
        Ok(())
    }

    /// The plan, a line a stage. `spec` adds what the model's own files say.
    pub fn explain(&self, spec: Option<&ModelSpec>) -> String {
        let model = match (spec, self.model.backend, &self.model.id) {
            (Some(spec), ..) => spec.describe(),
            (None, Backend::Hash, None) => format!("hash of the words, dim {}", self.model.hash_dim),
            (None, _, id) => {
                format!("{} at {} (not looked at)", id.as_deref().unwrap_or_default(), self.model.revision)
            }
        };
        let WindowConfig { tokens, records, bytes, linger_ms, in_flight_bytes } = &self.window;
        let age = if self.live { format!(", {linger_ms} ms") } else { String::new() };
        let lines = [
            ("source", format!("files {} ({})", self.source.paths.join(", "), self.source.format.as_str())),
            ("record", self.record.describe()),
            (
                "window",
                format!(
                    "up to {tokens} tokens, {records} records, {}{age}; {} in flight",
                    mebibytes(*bytes),
                    mebibytes(*in_flight_bytes)
                ),
            ),
            ("batch", format!("by length, up to {} tokens, {} rows", self.batch.tokens, self.batch.rows)),
            ("model", model),
            ("devices", devices(&self.devices)),
            ("sink", self.sink.describe(self.text_column)),
            (
                "rejected",
                match &self.dead_letter {
                    Some(path) => format!("to {} (JSON lines), the run goes on", path.display()),
                    None => "the first stops the run".into(),
                },
            ),
        ];
        lines.map(|(stage, line)| format!("{stage:<9}{line}\n")).concat()
    }
}

impl SinkPlan {
    fn describe(&self, text: bool) -> String {
        let columns = if text { "with text" } else { "without text" };
        match self {
            SinkPlan::Stdout(config) => format!("standard output as {:?}, {columns}", config.format).to_lowercase(),
            SinkPlan::Files { format, target: Target::File(path) } => {
                format!("{format:?} file {}, {columns}; appears whole when done", path.display())
            }
            SinkPlan::Files { format, target: Target::Folder { path, file_rows } } => {
                format!("{format:?} files of {file_rows} rows in {}, {columns}; each appears whole", path.display())
            }
        }
    }
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

fn sink(config: &SinkConfig) -> Result<SinkPlan, PlanError> {
    let files = |key: &str, format, path: &str, file_rows| {
        if path.is_empty() {
            return refuse(&format!("sink.{key}.path"), "expected a file's name, or a folder's that ends with /");
        }
        if file_rows == 0 {
            return refuse(&format!("sink.{key}.file_rows"), "expected at least 1, found 0");
        }
        Ok(SinkPlan::Files { format, target: Target::new(path, file_rows) })
    };
    match (&config.arrow, &config.parquet, &config.stdout) {
        (Some(arrow), None, None) => files("arrow", FileFormat::Arrow, &arrow.path, arrow.file_rows),
        (None, Some(parquet), None) => files("parquet", FileFormat::Parquet, &parquet.path, parquet.file_rows),
        (None, None, Some(stdout)) => Ok(SinkPlan::Stdout(stdout.clone())),
        (None, None, None) => refuse("sink", "no sink is given; expected one of arrow, parquet, stdout"),
        _ => refuse("sink", "more than one sink is given; expected one of arrow, parquet, stdout"),
    }
}

fn check_window(window: &WindowConfig, source: &FilesConfig) -> Result<(), PlanError> {
    let limits = [("tokens", window.tokens), ("records", window.records), ("bytes", window.bytes)];
    for (key, value) in limits {
        if value == 0 {
            return refuse(&format!("window.{key}"), "expected at least 1, found 0");
        }
    }
    if window.bytes > WINDOW_BYTES_MAX {
        return refuse("window.bytes", format!("{} is over the limit of {WINDOW_BYTES_MAX}", window.bytes));
    }
    // With less, an open window could hold the whole budget while it waits for a record that waits for the budget.
    let needed = window.bytes.saturating_add(source.record_bytes_max);
    if window.in_flight_bytes < needed {
        let message = format!(
            "{} is too small: an open window of window.bytes {} and one record of source.files.record_bytes_max {} need \
             {needed}",
            window.in_flight_bytes, window.bytes, source.record_bytes_max
        );
        return refuse("window.in_flight_bytes", message);
    }
    Ok(())
}

fn check_dead_letter(dead_letter: Option<&Path>, sink: &SinkPlan) -> Result<(), PlanError> {
    match (dead_letter, sink) {
        (Some(path), _) if path.as_os_str().is_empty() => refuse("dead_letter.path", "expected a file's name"),
        (Some(path), SinkPlan::Files { target: Target::File(output), .. }) if path == output => {
            refuse("dead_letter.path", "is the same file as the sink's; the later one would replace the other")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    const GOOD: &str = "source: {files: {paths: [a.jsonl]}}\nmodel: {id: m}\nsink: {arrow: {path: out.arrow}}\n";

    #[test]
    fn contradictions_are_refused_by_key() {
        let check = |set: &[&str], key: &str, part: &str| {
            let config = Layers::from_texts(&[("p.yaml", GOOD)], &[], set).load().unwrap();
            let error = Plan::new(&config).unwrap_err();
            assert_eq!(error.key, key);
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(&["source.files.paths=[]"], "source.files.paths", "at least one");
        check(&["sink.parquet.path=x"], "sink", "more than one");
        check(&["sink.arrow.path=''"], "sink.arrow.path", "expected a file's name");
        check(&["window.tokens=0"], "window.tokens", "found 0");
        check(&["window.in_flight_bytes=1000"], "window.in_flight_bytes", "too small");
        check(&["window.bytes=2000000000"], "window.bytes", "over the limit");
        check(&["batch.rows=0"], "batch.rows", "found 0");
        check(&["devices=[cuda:0, 'cuda:0']"], "devices", "cuda:0");
        check(&["devices=[tpu]"], "devices", "tpu");
        check(&["model.max_seq_length=0"], "model.max_seq_length", "0");
        check(&["dead_letter.path=out.arrow"], "dead_letter.path", "same file");
        check(&["record.template='{{'"], "record.template", "syntax error");
    }
}

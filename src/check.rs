//! Looks at everything that a run will need, one thing after the other, and leaves nothing behind but the folder of the
//! output: are the files there, the brokers, the topics, the group, the model, the devices? A finding says what is there, or what is wrong and what
//! to do. No record is read, no message sent.

use crate::encode::devices;
use crate::kafka::config::{KafkaSinkConfig, KafkaSourceConfig};
use crate::kafka::{KafkaConsumer, KafkaProducer, TransactionMode};
use crate::model::hub::{HubSettings, Progress};
use crate::output::quantize::Ranges;
use crate::plan::{DeadLetterPlan, LocalSink, Plan, Route, TopicSink};
use crate::sink::file::Target;
use crate::sink::whole_file::{WholeFile, prepare_folder};
use crate::source::file::{FileSource, FilesConfig};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The section of the pipeline file.
    pub part: &'static str,
    /// What is there; or what is wrong, and what to do.
    pub result: Result<String, String>,
}

/// Looks, and tells each finding as it is found. It may download the model. It blocks.
pub fn check(plan: &Plan, hub: &HubSettings, progress: &dyn Progress, tell: &mut dyn FnMut(Finding)) {
    let mut tell = |part, result: Result<String, String>| tell(Finding { part, result });
    let route = plan.route();
    match route {
        Route::FileToFile { files, .. } | Route::FileToKafka { files, .. } => check_files(plan, files, &mut tell),
        Route::KafkaToFile { kafka, .. } | Route::KafkaToKafka { kafka, .. } => check_consumer(kafka, &mut tell),
    }
    check_model(plan, hub, progress, &mut tell);
    let devices = devices::resolve(&plan.devices).map_err(said);
    let shown = |devices: Vec<_>| devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tell("devices", devices.map(shown));
    match route {
        Route::FileToFile { sink, .. } | Route::KafkaToFile { sink, .. } => tell("sink", check_local_sink(sink)),
        Route::FileToKafka { sink, .. } | Route::KafkaToKafka { sink, .. } => {
            let letters = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
            // A random id even where a run's is fixed: a run that goes on must not be fenced by a check.
            let transactions = match route.transactions(plan.guarantee) {
                TransactionMode::None => TransactionMode::None,
                TransactionMode::RandomId | TransactionMode::FixedId(_) => TransactionMode::RandomId,
            };
            check_producer("sink", sink, letters, transactions, &mut tell);
        }
    }
    match (&plan.dead_letter, route) {
        (Some(DeadLetterPlan::File(path)), _) => tell("dead_letter", writable(path)),
        (Some(DeadLetterPlan::Topic(topic)), Route::KafkaToFile { kafka, .. }) => {
            let config = KafkaSinkConfig { topic: topic.clone(), ..KafkaSinkConfig::default() };
            let sink = TopicSink { config, cluster: kafka.cluster() };
            check_producer("dead_letter", &sink, None, TransactionMode::None, &mut tell);
        }
        // With a topic as sink, that one's producer has looked at the dead letters' topic too.
        (Some(DeadLetterPlan::Topic(_)), _) | (None, _) => {}
    }
}

/// Takes a finding: the section, and what was found there.
type Tell<'a> = dyn FnMut(&'static str, Result<String, String>) + 'a;

fn check_files(plan: &Plan, files: &FilesConfig, tell: &mut Tell<'_>) {
    let opened = FileSource::open(files, &plan.record.top_fields());
    tell("source", opened.map(|source| source.describe()).map_err(said));
}

fn check_consumer(kafka: &KafkaSourceConfig, tell: &mut Tell<'_>) {
    match KafkaConsumer::open(kafka).and_then(|consumer| consumer.report()) {
        Err(error) => tell("source", Err(said(error))),
        Ok(lines) => lines.into_iter().for_each(|line| tell("source", Ok(line))),
    }
}

fn check_model(plan: &Plan, hub: &HubSettings, progress: &dyn Progress, tell: &mut Tell<'_>) {
    let spec = crate::encode::spec(&plan.model, hub, progress).map_err(said).and_then(|spec| {
        plan.check_model(&spec).map_err(said)?;
        Ok(spec)
    });
    if let (Ok(spec), Some(ranges)) = (&spec, &plan.ranges) {
        let made_by: Vec<_> = spec.provenance().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let read = Ranges::read(ranges, spec.dim, &made_by).map_err(said);
        tell("output", read.map(|ranges| format!("ranges of {} values, made with this model", ranges.dim())));
    }
    tell("model", spec.map(|spec| spec.describe()));
}

fn check_producer(
    part: &'static str,
    sink: &TopicSink,
    dead_letters: Option<&str>,
    transactions: TransactionMode,
    tell: &mut Tell<'_>,
) {
    match KafkaProducer::open(&sink.config, &sink.cluster, dead_letters, transactions, String::new()) {
        Err(error) => tell(part, Err(said(error))),
        Ok(producer) => producer.report().into_iter().for_each(|line| tell(part, Ok(line))),
    }
}

fn check_local_sink(sink: &LocalSink) -> Result<String, String> {
    match sink {
        LocalSink::Stdout(_) => Ok("standard output".into()),
        LocalSink::Files { target: Target::File(path), .. } | LocalSink::Ranges(path) => writable(path),
        LocalSink::Files { target: Target::Folder { path, .. }, .. } => {
            prepare_folder(path).map(|()| format!("{} can be written to", path.display())).map_err(said)
        }
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn writable(path: &std::path::Path) -> Result<String, String> {
    WholeFile::create(path).map(|_| format!("{} can be written", path.display())).map_err(said)
}

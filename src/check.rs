//! `embedmill check`: checks everything that a run needs (files, brokers, topics, the group, the model, the devices), one
//! after the other. Each finding says what was found, or what is wrong and what to do.
//!
//! No record is read and no message is sent. Nothing is left behind but the folder of the output, if it did not exist.

use crate::encode::devices;
use crate::kafka::config::KafkaSourceConfig;
use crate::kafka::{KafkaConsumer, KafkaError, KafkaProducer, TransactionMode};
use crate::model::hub::{DownloadProgress, HubSettings};
use crate::output::quantize::Ranges;
use crate::plan::{DeadLetterPlan, LocalSink, Plan, Route};
use crate::sink::file::Target;
use crate::sink::whole_file::{WholeFile, prepare_folder};
use crate::source::file::{FileSource, FilesConfig};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The section of the pipeline file.
    pub part: &'static str,
    /// What was found; or what is wrong, and what to do.
    pub result: Result<String, String>,
}

/// Runs the checks, and passes each finding to `report` as soon as it is known. This blocks, and may download the model.
pub(crate) fn check(plan: &Plan, hub: &HubSettings, progress: &dyn DownloadProgress, report: &mut dyn FnMut(Finding)) {
    let mut report = |part, result: Result<String, String>| report(Finding { part, result });
    let route = plan.route();
    match route {
        Route::FileToFile { files, .. } | Route::FileToKafka { files, .. } => check_files(plan, files, &mut report),
        Route::KafkaToFile { kafka, .. } | Route::KafkaToKafka { kafka, .. } => check_consumer(kafka, &mut report),
    }
    check_model(plan, hub, progress, &mut report);
    let devices = devices::resolve(&plan.devices).map_err(shown);
    let list = |devices: Vec<_>| devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    report("devices", devices.map(list));
    match route {
        Route::FileToFile { sink, .. } | Route::KafkaToFile { sink, .. } => report("sink", check_local_sink(sink)),
        Route::FileToKafka { sink, .. } | Route::KafkaToKafka { sink, .. } => {
            let dead_letter_topic = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
            // The id is random even where that of a run is fixed, so that a check does not fence a run in progress.
            let transactions = match route.transactions(plan.guarantee) {
                TransactionMode::None => TransactionMode::None,
                TransactionMode::RandomId | TransactionMode::FixedId(_) => TransactionMode::RandomId,
            };
            let opened =
                KafkaProducer::open(&sink.config, &sink.cluster, dead_letter_topic, transactions, String::new());
            report_producer("sink", opened, &mut report);
        }
    }
    match (&plan.dead_letter, route) {
        (Some(DeadLetterPlan::File(path)), _) => report("dead_letter", writable(path)),
        (Some(DeadLetterPlan::Topic(topic)), Route::KafkaToFile { kafka, .. }) => {
            let opened = KafkaProducer::open_for_dead_letters(topic, &kafka.cluster(), String::new());
            report_producer("dead_letter", opened, &mut report);
        }
        // If the sink is a topic, its producer has checked the dead-letter topic too.
        (Some(DeadLetterPlan::Topic(_)), _) | (None, _) => {}
    }
}

/// Takes the section of the pipeline file, and what was found there.
type Report<'a> = dyn FnMut(&'static str, Result<String, String>) + 'a;

fn check_files(plan: &Plan, files: &FilesConfig, report: &mut Report<'_>) {
    let opened = FileSource::open(files, &plan.record.top_fields());
    report("source", opened.map(|source| source.describe()).map_err(shown));
}

fn check_consumer(kafka: &KafkaSourceConfig, report: &mut Report<'_>) {
    match KafkaConsumer::open(kafka).and_then(|consumer| consumer.report()) {
        Err(error) => report("source", Err(shown(error))),
        Ok(lines) => lines.into_iter().for_each(|line| report("source", Ok(line))),
    }
}

fn check_model(plan: &Plan, hub: &HubSettings, progress: &dyn DownloadProgress, report: &mut Report<'_>) {
    let spec = crate::encode::spec(&plan.model, hub, progress).map_err(shown).and_then(|spec| {
        plan.check_model(&spec).map_err(shown)?;
        Ok(spec)
    });
    if let (Ok(spec), Some(ranges)) = (&spec, &plan.ranges) {
        let made_by: Vec<_> = spec.provenance().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let read = Ranges::read(ranges, spec.dim, &made_by).map_err(shown);
        report("output", read.map(|ranges| format!("ranges of {} dimensions, computed with this model", ranges.dim())));
    }
    report("model", spec.map(|spec| spec.describe()));
}

fn report_producer(part: &'static str, opened: Result<KafkaProducer, KafkaError>, report: &mut Report<'_>) {
    match opened {
        Err(error) => report(part, Err(shown(error))),
        Ok(producer) => producer.report().into_iter().for_each(|line| report(part, Ok(line))),
    }
}

fn check_local_sink(sink: &LocalSink) -> Result<String, String> {
    match sink {
        LocalSink::Stdout(_) => Ok("standard output".into()),
        LocalSink::Files { target: Target::File(path), .. } | LocalSink::Ranges(path) => writable(path),
        LocalSink::Files { target: Target::Folder { path, .. }, .. } => {
            prepare_folder(path).map(|()| format!("{}: folder can be written to", path.display())).map_err(shown)
        }
    }
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn writable(path: &std::path::Path) -> Result<String, String> {
    WholeFile::create(path).map(|_| format!("{}: can be written", path.display())).map_err(shown)
}

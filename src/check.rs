//! Looks at everything that a run will need, one thing after the other, and leaves nothing behind but the folder of the
//! output: are the files there, the brokers, the topics, the group, the model, the devices? A finding says what is there, or what is wrong and what
//! to do. No record is read, no message sent.

use crate::delivery::Promise;
use crate::encode::hub::{HubSettings, Progress};
use crate::kafka::config::KafkaSinkConfig;
use crate::kafka::{KafkaConsumer, KafkaProducer, Transactions};
use crate::plan::{DeadLetterPlan, Plan, SinkPlan, SourcePlan};
use crate::quantize::Ranges;
use crate::sink::file::Target;
use crate::sink::whole_file::{WholeFile, prepare_folder};
use crate::source::file::FileSource;

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
    match &plan.source {
        SourcePlan::Files(files) => {
            let opened = FileSource::open(files, &plan.record.top_fields());
            tell("source", opened.map(|source| source.describe()).map_err(said));
        }
        SourcePlan::Kafka(kafka) => match KafkaConsumer::open(kafka) {
            Err(error) => tell("source", Err(said(error))),
            Ok(consumer) => match consumer.report() {
                Err(error) => tell("source", Err(said(error))),
                Ok(lines) => lines.into_iter().for_each(|line| tell("source", Ok(line))),
            },
        },
    }
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
    let devices = plan.devices.resolve().map_err(said);
    let shown = |devices: Vec<_>| devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tell("devices", devices.map(shown));
    let letters = plan.dead_letter.as_ref().and_then(DeadLetterPlan::topic);
    // An id of its own even where a run's has a name: a run that is going on must not be ended by a look at it.
    let transactions = match plan.promise {
        Promise::ExactlyOnce => Transactions::Unique,
        Promise::AtLeastOnce => Transactions::No,
    };
    match &plan.sink {
        SinkPlan::Stdout(_) => tell("sink", Ok("standard output".into())),
        SinkPlan::Files { target: Target::File(path), .. } | SinkPlan::Ranges(path) => tell("sink", writable(path)),
        SinkPlan::Files { target: Target::Folder { path, .. }, .. } => {
            let prepared = prepare_folder(path).map_err(said);
            tell("sink", prepared.map(|()| format!("{} can be written to", path.display())));
        }
        SinkPlan::Kafka { config, brokers, properties } => {
            let opened = KafkaProducer::open(config, (brokers, properties), letters, transactions, String::new());
            match opened {
                Err(error) => tell("sink", Err(said(error))),
                Ok(producer) => producer.report().into_iter().for_each(|line| tell("sink", Ok(line))),
            }
        }
    }
    match (&plan.dead_letter, &plan.sink, &plan.source) {
        (Some(DeadLetterPlan::File(path)), ..) => tell("dead_letter", writable(path)),
        (
            Some(DeadLetterPlan::Topic(topic)),
            SinkPlan::Files { .. } | SinkPlan::Stdout(_),
            SourcePlan::Kafka(kafka),
        ) => {
            let config = KafkaSinkConfig { topic: topic.clone(), ..KafkaSinkConfig::default() };
            let properties = kafka.connection();
            let opened =
                KafkaProducer::open(&config, (&kafka.brokers, &properties), None, Transactions::No, String::new());
            match opened {
                Err(error) => tell("dead_letter", Err(said(error))),
                Ok(producer) => producer.report().into_iter().for_each(|line| tell("dead_letter", Ok(line))),
            }
        }
        _ => {}
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn writable(path: &std::path::Path) -> Result<String, String> {
    WholeFile::create(path).map(|_| format!("{} can be written", path.display())).map_err(said)
}

//! Runs a plan from start to end: log, traces, endpoint, signals, model, progress bar, pipeline, summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::config::otlp_settings;
use crate::model::hub::HubSettings;
use crate::pipeline::{Progress, Stop};
use crate::plan::Plan;
use crate::reload::tuning_of;
use crate::start::{Started, start};
use crate::telemetry::otlp::TraceExport;
use crate::telemetry::{Observer, events};
use anyhow::Context;
use tokio::sync::watch;

use super::reload::{self, ReloadSource, plan_lines};
use super::signals;
use super::summary::{SummaryFormat, as_json, as_text};
use crate::cli::progress::{LoadBar, RunBar};

/// Runs the plan until its source ends or a signal stops it, and prints the summary in `format`. With a `reload_source`,
/// which `run` has, SIGHUP reloads the pipeline file, and traces are exported if the pipeline file or the environment says
/// so.
pub(crate) fn run(
    plan: Plan,
    hub: &HubSettings,
    format: SummaryFormat,
    reload_source: Option<ReloadSource>,
) -> anyhow::Result<()> {
    // Dropped last, so that spans that end during shutdown are exported.
    let traces = reload_source.as_ref().map(|source| otlp_settings(&source.running)).transpose()?.flatten();
    let _export = traces.map(TraceExport::start).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    // SIGHUP is caught before the model is loaded, because its default action would end the process.
    let hangup = reload_source.as_ref().and_then(|source| {
        reload::apply_log_filter(&source.running);
        let _runtime = runtime.enter();
        reload::catch_hangup()
    });
    // The endpoint is closed when the run ends. If its address cannot be bound, the run does not start.
    let observer = plan.observe.map(|address| {
        let _runtime = runtime.enter();
        Observer::start(address, plan_lines(&plan)).map(Arc::new)
    });
    let observer = observer.transpose()?;
    if let Some(observer) = &observer {
        tracing::info!(url = format!("http://{}", observer.address()), "serving metrics and status");
    }
    let stop = Stop::default();
    let starting = Arc::new(AtomicBool::new(true));
    // An incomplete single file could be mistaken for the whole output, so a signal aborts instead of draining.
    let abort_at_once = plan.sink.is_single_file();
    runtime.spawn(signals::listen(stop.clone(), abort_at_once, starting.clone()));
    let live = plan.live;
    let loading = Instant::now();
    let (tuning_sender, tuning) = watch::channel(tuning_of(&plan));
    let bar = LoadBar::start();
    let started = start(plan, tuning, hub, &bar);
    bar.finish();
    let Started { pipeline, spec, input_bytes, inputs } = started?;
    let load = loading.elapsed();
    events::model_loaded(spec.describe(), &spec.provenance());
    tracing::info!(model = spec.describe(), inputs, load_seconds = load.as_secs_f64(), "started");
    let summary = runtime.block_on(async {
        starting.store(false, Ordering::SeqCst);
        if let (Some(hangup), Some(source)) = (hangup, reload_source) {
            tokio::spawn(reload::listen(hangup, source, tuning_sender, spec.clone(), observer.clone()));
        }
        let progress = Arc::new(Progress::default());
        let bar = RunBar::start(progress.clone(), input_bytes);
        let summary = pipeline.run(stop, progress).await;
        drop(bar);
        summary
    })?;
    match format {
        SummaryFormat::Text => eprint!("{}", as_text(&summary, &spec)),
        SummaryFormat::Json => eprintln!("{}", as_json(&summary, load)),
        SummaryFormat::None => {}
    }
    // An incomplete output must not look like success to a script. A live stream has no end, so stopping it is success.
    if summary.drained && !live {
        anyhow::bail!("stopped by a signal before the end of the input");
    }
    Ok(())
}

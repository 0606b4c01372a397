//! Runs a plan: loading, progress, signals, and the summary at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::config::otlp_settings;
use crate::model::hub::HubSettings;
use crate::pipeline::{Progress, Stop};
use crate::plan::Plan;
use crate::reload::tuning_of;
use crate::start::{Started, start};
use crate::telemetry::otlp::Tracing;
use crate::telemetry::{Observer, events};
use anyhow::Context;
use tokio::sync::watch;

use super::reload::{self, Reloads, plan_lines};
use super::signals;
use super::summary::{ShownAs, as_json, as_text};
use crate::cli::progress::{LoadBar, RunBar};

/// Runs it to its end; with `reloads`, as the file has it that is read again on SIGHUP.
pub fn run(plan: Plan, hub: &HubSettings, shown_as: ShownAs, reloads: Option<Reloads>) -> anyhow::Result<()> {
    // Dropped last: what happened until the end is sent.
    let traces = reloads.as_ref().map(|reloads| otlp_settings(&reloads.running)).transpose()?.flatten();
    let _tracing = traces.map(Tracing::start).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    // From the start: while the model loads SIGHUP must not end the process.
    let hangup = reloads.as_ref().and_then(|reloads| {
        reload::log_as(&reloads.running);
        let _runtime = runtime.enter();
        reload::hangup()
    });
    // A part of a file would pass for the whole, so a single file is given up when the run is stopped early.
    let single_file = plan.sink.is_single_file();
    let observer = plan.observe.map(|address| {
        let _runtime = runtime.enter();
        Observer::start(address, plan_lines(&plan)).map(Arc::new)
    });
    // Until the run is over; what cannot be watched as asked does not begin.
    let observer = observer.transpose()?;
    if let Some(observer) = &observer {
        tracing::info!(url = format!("http://{}", observer.address()), "observed");
    }
    let stop = Stop::default();
    let starting = Arc::new(AtomicBool::new(true));
    runtime.spawn(signals::listen(stop.clone(), single_file, starting.clone()));
    let live = plan.live;
    let loading = Instant::now();
    let (tune, tuning) = watch::channel(tuning_of(&plan));
    let bar = LoadBar::start();
    let started = start(plan, tuning, hub, &bar);
    bar.finish();
    let Started { pipeline, spec, input_bytes, inputs } = started?;
    let load = loading.elapsed();
    events::model_loaded(spec.describe(), &spec.provenance());
    tracing::info!(model = spec.describe(), inputs, load_seconds = load.as_secs_f64(), "started");
    let summary = runtime.block_on(async {
        starting.store(false, Ordering::SeqCst);
        if let (Some(hangup), Some(reloads)) = (hangup, reloads) {
            tokio::spawn(reload::listen(hangup, reloads, tune, (spec.clone(), observer.clone())));
        }
        let progress = Arc::new(Progress::default());
        let bar = RunBar::start(progress.clone(), input_bytes);
        let summary = pipeline.run(stop, progress).await;
        drop(bar);
        summary
    })?;
    match shown_as {
        ShownAs::Text => eprint!("{}", as_text(&summary, &spec)),
        ShownAs::Json => eprintln!("{}", as_json(&summary, load)),
        ShownAs::None => {}
    }
    // Whoever waits for the files must not take a part for the whole; a live stream has no end to come to.
    if summary.drained && !live {
        anyhow::bail!("stopped by a signal before the end of the input");
    }
    Ok(())
}

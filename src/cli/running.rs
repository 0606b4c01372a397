//! Runs a plan: loading, progress, signals, and the summary at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use embedmill::config::otlp_settings;
use embedmill::encode::hub::HubSettings;
use embedmill::encode::modules::ModelSpec;
use embedmill::pipeline::{Progress, Stop, Summary};
use embedmill::plan::{Plan, SinkPlan};
use embedmill::reload::Tuning;
use embedmill::sink::file::Target;
use embedmill::start::{Started, start};
use embedmill::telemetry::otlp::Tracing;
use embedmill::telemetry::status::PlanLine;
use embedmill::telemetry::{Observer, events};
use indicatif::{HumanBytes, HumanCount};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::progress::{LoadBar, RunBar};
use super::reloading::{self, Reloads};

/// The closing summary's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShownAs {
    /// Lines for people
    Text,
    /// One JSON object, for scripts
    Json,
    /// Nothing
    None,
}

/// The plan's lines, as `/status` shows them.
pub fn plan_lines(plan: &Plan) -> Vec<PlanLine> {
    plan.lines(None).into_iter().map(|(stage, what)| PlanLine { stage: stage.into(), what }).collect()
}

/// Runs it to its end; with `reloads`, as the file has it that is read again on SIGHUP.
pub fn run(plan: Plan, hub: &HubSettings, shown_as: ShownAs, reloads: Option<Reloads>) -> anyhow::Result<()> {
    // Dropped last: what happened until the end is sent.
    let traces = reloads.as_ref().map(|reloads| otlp_settings(&reloads.running)).transpose()?.flatten();
    let _tracing = traces.map(Tracing::start).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    // From the start: while the model loads SIGHUP must not end the process.
    let hangup = reloads.as_ref().and_then(|reloads| {
        reloading::log_as(&reloads.running);
        let _runtime = runtime.enter();
        reloading::hangup()
    });
    // A part of a file would pass for the whole, so a single file is given up when the run is stopped early.
    let single_file = matches!(plan.sink, SinkPlan::Files { target: Target::File(_), .. } | SinkPlan::Ranges(_));
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
    runtime.spawn(listen(stop.clone(), single_file, starting.clone()));
    let live = plan.live;
    let loading = Instant::now();
    let (tune, tuning) = watch::channel(Tuning::of(&plan));
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
            tokio::spawn(reloading::listen(hangup, reloads, tune, (spec.clone(), observer.clone())));
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

/// SIGXFSZ, the same number on Linux and macOS: a file would become larger than the system lets it.
const FILE_SIZE_LIMIT: i32 = 25;

/// The first signal drains, or aborts where only a whole output makes sense; the second aborts. While the run starts there
/// is nothing to finish, and what blocks cannot be told: the process ends. (As the first process of a container it would not,
/// were the signal left alone.)
async fn listen(stop: Stop, abort_at_once: bool, starting: Arc<AtomicBool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be caught here; Ctrl-C stops the run at once");
        return;
    };
    // Caught, it no longer ends the process: writing fails with an error that is told like any other.
    let _file_size_limit = signal(SignalKind::from_raw(FILE_SIZE_LIMIT));
    for count in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if starting.load(Ordering::SeqCst) {
            eprintln!("stopped while starting; nothing was embedded");
            std::process::exit(1);
        }
        if abort_at_once || count > 0 {
            stop.abort.cancel();
        } else {
            eprintln!("stopping: finishing what was read; once more stops at once");
            stop.drain.cancel();
        }
    }
}

fn as_text(summary: &Summary, spec: &ModelSpec) -> String {
    let settled = &summary.settled;
    let seconds = summary.elapsed.as_secs_f64().max(1e-9);
    let rate = |count: u64| HumanCount((count as f64 / seconds).round() as u64);
    let mut text = format!(
        "{} rows from {} records, {} tokens, in {seconds:.1} s: {} records/s, {} tokens/s ({})\n",
        HumanCount(settled.rows),
        HumanCount(settled.records),
        HumanCount(settled.tokens),
        rate(settled.records),
        rate(settled.tokens),
        spec.describe(),
    );
    if settled.truncated_rows > 0 {
        text += &format!(
            "{} texts were longer than {} tokens and lost {} (column `truncated`)\n",
            HumanCount(settled.truncated_rows),
            spec.max_seq_length,
            HumanCount(settled.truncated_tokens)
        );
    }
    if settled.dead_lettered() > 0 {
        text += &format!("{} records were rejected: see the dead letters\n", HumanCount(settled.dead_lettered()));
    }
    if settled.deletes > 0 {
        text += &format!("{} deletes\n", HumanCount(settled.deletes));
    }
    if settled.given_up > 0 {
        text += &format!("{} records went to other members of the group\n", HumanCount(settled.given_up));
    }
    if settled.records == 0 {
        text += "warning: there was no record in the input\n";
    }
    if summary.drained {
        text += "stopped before the end of the input\n";
    }
    for file in &summary.written {
        text += &format!("{} ({} rows, {})\n", file.path.display(), HumanCount(file.rows), HumanBytes(file.bytes));
    }
    text
}

fn as_json(summary: &Summary, load: Duration) -> serde_json::Value {
    let settled = &summary.settled;
    serde_json::json!({
        "records": settled.records,
        "rows": settled.rows,
        "tokens": settled.tokens,
        "truncated_rows": settled.truncated_rows,
        "truncated_tokens": settled.truncated_tokens,
        "dead_lettered": settled.dead_lettered(),
        "deletes": settled.deletes,
        "given_up": settled.given_up,
        "windows": summary.windows,
        "seconds": summary.elapsed.as_secs_f64(),
        "load_seconds": load.as_secs_f64(),
        "drained": summary.drained,
        "written": summary.written.iter().map(|file| serde_json::json!({
            "path": file.path, "rows": file.rows, "bytes": file.bytes,
        })).collect::<Vec<_>>(),
    })
}

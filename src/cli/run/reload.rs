//! SIGHUP: reloads the pipeline file and applies the keys that can change while the run continues.
//!
//! An invalid file is logged and changes nothing. If standard error is a terminal, SIGHUP means that the terminal was
//! closed; then it is not caught and ends the run, as it does with other programs.

use std::io::IsTerminal;
use std::sync::Arc;

use crate::config::{Config, log_filter};
use crate::model::spec::ModelSpec;
use crate::pipeline::Tuning;
use crate::plan::Plan;
use crate::reload::{Changes, changes, tuning_of};
use crate::telemetry::status::PlanLine;
use crate::telemetry::{Observer, logs};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The lines of the plan, for `/status`.
pub(crate) fn plan_lines(plan: &Plan) -> Vec<PlanLine> {
    plan.lines(None).into_iter().map(|(stage, description)| PlanLine { stage: stage.into(), description }).collect()
}

/// The log filter if neither the pipeline file nor the environment sets one.
const LOG_DEFAULT: &str = "info";

/// The running configuration, and how to load the pipeline file again.
pub(crate) struct ReloadSource {
    /// The configuration in force.
    pub running: Config,
    /// Loads and checks the pipeline file. Errors name the location of the mistake.
    pub load: Box<dyn Fn() -> anyhow::Result<Config> + Send>,
}

/// Catches SIGHUP from now on; `None` if it is left to end the run. Must be called within a tokio runtime.
pub(crate) fn catch_hangup() -> Option<Signal> {
    if std::io::stderr().is_terminal() {
        return None;
    }
    signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be caught; the pipeline file cannot be reloaded"))
        .ok()
}

/// Applies the log filter of the pipeline file, unless the environment sets one.
pub(crate) fn apply_log_filter(config: &Config) {
    if log_filter().is_none() {
        logs::set(config.log.as_deref().unwrap_or(LOG_DEFAULT));
    }
}

/// Reloads the pipeline file at every SIGHUP, and sends the new settings to the pipeline, the log and the endpoint.
pub(crate) async fn listen(
    mut hangup: Signal,
    mut source: ReloadSource,
    tuning: watch::Sender<Tuning>,
    spec: Arc<ModelSpec>,
    observer: Option<Arc<Observer>>,
) {
    while hangup.recv().await.is_some() {
        let (changes, plan) = match reload(&source, &spec) {
            Ok(reloaded) => reloaded,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "pipeline file rejected; continuing with the previous settings");
                continue;
            }
        };
        let Changes { running, applied, needs_restart } = changes;
        tuning.send_replace(tuning_of(&plan));
        apply_log_filter(&running);
        if let Some(observer) = &observer {
            observer.set_plan(plan_lines(&plan));
        }
        source.running = running;
        let applied = if applied.is_empty() { "nothing".into() } else { applied.join(", ") };
        tracing::info!(applied, "pipeline file reloaded");
        for key in needs_restart {
            tracing::warn!(key, "changed key needs a restart; keeping its previous value");
        }
    }
}

/// Loads the pipeline file, and plans the running configuration with its reloadable changes.
fn reload(source: &ReloadSource, spec: &ModelSpec) -> anyhow::Result<(Changes, Plan)> {
    let changes = changes(&source.running, &(source.load)()?);
    let plan = Plan::new(&changes.running)?;
    plan.check_model(spec)?;
    Ok((changes, plan))
}

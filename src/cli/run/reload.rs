//! SIGHUP: the pipeline file is read again, and what can change while the run goes on does.
//!
//! A file that is wrong changes nothing and is said so. Where standard error is a terminal SIGHUP means that the terminal
//! has gone, and ends the run as it does everywhere.

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

/// The plan's lines, as `/status` shows them.
pub fn plan_lines(plan: &Plan) -> Vec<PlanLine> {
    plan.lines(None).into_iter().map(|(stage, what)| PlanLine { stage: stage.into(), what }).collect()
}

/// What is logged where neither the file nor the environment says.
const LOG: &str = "info";

/// How the file is read again, and what came of it last time.
pub struct Reloads {
    pub running: Config,
    /// Reads and plans it; errors say where the mistake was made.
    pub read: Box<dyn Fn() -> anyhow::Result<Config> + Send>,
}

/// Catches SIGHUP from now on; `None` where it is left to end the run. Within tokio's runtime.
pub fn hangup() -> Option<Signal> {
    if std::io::stderr().is_terminal() {
        return None;
    }
    signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be caught here")).ok()
}

/// Logs as the file says, where the environment says nothing.
pub fn log_as(config: &Config) {
    if log_filter().is_none() {
        logs::set(config.log.as_deref().unwrap_or(LOG));
    }
}

/// Reloads at every SIGHUP.
pub async fn listen(
    mut hangup: Signal,
    mut reloads: Reloads,
    tuning: watch::Sender<Tuning>,
    (spec, observer): (Arc<ModelSpec>, Option<Arc<Observer>>),
) {
    while hangup.recv().await.is_some() {
        let applied = (reloads.read)().and_then(|read| {
            let changes = changes(&reloads.running, &read);
            let plan = Plan::new(&changes.running)?;
            plan.check_model(&spec)?;
            Ok((changes, plan))
        });
        match applied {
            Ok((Changes { running, applied, left }, plan)) => {
                tuning.send_replace(tuning_of(&plan));
                log_as(&running);
                if let Some(observer) = &observer {
                    observer.show(plan_lines(&plan));
                }
                reloads.running = running;
                let applied = if applied.is_empty() { "nothing".into() } else { applied.join(", ") };
                tracing::info!(applied, "the pipeline file was read again");
                for key in left {
                    tracing::warn!(
                        key,
                        "changed in the pipeline file; it needs a restart, and stays as it is until then"
                    );
                }
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the pipeline file was not taken; the run goes on as it was"
                );
            }
        }
    }
}

//! Runs a plan from start to end in one call.

use std::sync::Arc;

use super::{StartError, Started, start};
use crate::config::hub_settings;
use crate::pipeline::{Progress, RunError, Stop, Summary};
use crate::plan::Plan;
use crate::reload::tuning_of;

/// Why a plan could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run could not be started: nothing was read or written.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The run failed: published output remains, and no incomplete file has a final name.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The operating system could not create a thread of the tokio runtime.
    #[error("starting the runtime: {0}")]
    Runtime(std::io::Error),
}

/// Runs a plan until its source ends, `stop` drains or aborts it, or it fails, and blocks until then. `progress` can be
/// read from another thread during the run.
///
/// The function starts its own tokio runtime, so it must not be called from within one.
///
/// ```
/// use embedmill::{Config, Plan, Progress, Stop};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("embedmill-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let (input, output) = (folder.join("notes.txt"), folder.join("vectors.parquet"));
/// std::fs::write(&input, "a first note\na second note\n")?;
/// let config = Config::from_yaml(&format!(
///     "source: {{ files: {{ paths: [{input:?}] }} }}\nmodel: {{ backend: hash }}\nsink: {{ parquet: {{ path: {output:?} }} }}"
/// ))?;
/// let summary = embedmill::run(Plan::new(&config)?, Stop::default(), Progress::default().into())?;
/// assert_eq!(summary.settled.rows, 2);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Runtime`] or [`Error::Start`] if no record was read yet, [`Error::Run`] afterwards.
pub fn run(plan: Plan, stop: Stop, progress: Arc<Progress>) -> Result<Summary, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let (hub, tuning) = (hub_settings(&plan.model), tuning_of(&plan).fixed());
    let Started { pipeline, .. } = start(plan, tuning, &hub, &())?;
    Ok(runtime.block_on(pipeline.run(stop, progress))?)
}

//! Arguments that name a pipeline file, and the plan that comes of them.

use std::path::PathBuf;

use crate::config::{Config, Layers};
use crate::plan::Plan;
use clap::Args;

#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file; of several, later ones win
    #[arg(required = true, value_name = "PIPELINE.yaml")]
    files: Vec<PathBuf>,
    /// Sets one key over the files and the environment, as in model.pooling=cls; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl PipelineArgs {
    /// The configuration and its plan; errors say where the mistake was made.
    pub fn plan(&self) -> anyhow::Result<(Config, Plan)> {
        self.plan_with(|_| {})
    }

    /// The same, with what a flag changes.
    pub fn plan_with(&self, change: impl FnOnce(&mut Config)) -> anyhow::Result<(Config, Plan)> {
        let layers = Layers::read(&self.files, &self.set)?;
        let mut config = layers.load()?;
        change(&mut config);
        let plan = Plan::new(&config).map_err(|error| layers.error(&error.key, error.message))?;
        Ok((config, plan))
    }

    /// The files, for messages.
    pub fn shown(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" + ")
    }
}

//! Arguments that name a pipeline file, and the plan made from them.

use std::path::PathBuf;

use crate::config::{Config, Layers};
use crate::plan::Plan;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// Pipeline file; several files are merged, and later ones override earlier ones
    #[arg(required = true, value_name = "PIPELINE.yaml")]
    files: Vec<PathBuf>,
    /// Set one key, overriding files and environment, such as model.pooling=cls; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl PipelineArgs {
    /// The configuration and its plan. Errors name the location of the mistake.
    pub(crate) fn plan(&self) -> anyhow::Result<(Config, Plan)> {
        self.plan_with(|_| {})
    }

    /// The same after `change`, which applies flags.
    pub(crate) fn plan_with(&self, change: impl FnOnce(&mut Config)) -> anyhow::Result<(Config, Plan)> {
        let layers = Layers::read(&self.files, &self.set)?;
        let mut config = layers.load()?;
        change(&mut config);
        let plan = Plan::new(&config).map_err(|error| layers.error(&error.key, error.message))?;
        Ok((config, plan))
    }

    /// The names of the files, for messages.
    pub(crate) fn display(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" + ")
    }
}

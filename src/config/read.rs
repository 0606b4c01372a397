//! A pipeline file to a [`Config`], in one step.

use std::path::Path;

use super::error::ConfigError;
use super::file::Config;
use super::layers::Layers;

impl Config {
    /// Reads pipeline files, later ones over earlier ones, with the environment (`EMBEDMILL__A__B`) and then `set`
    /// (`a.b=value`) over them. `${VAR}` in values is expanded from the environment.
    ///
    /// # Errors
    /// The first mistake, with the file, line and key: a file that cannot be read, text that is not YAML, an unknown key, a
    /// value of a wrong type, a variable that is not set.
    pub fn read(files: &[impl AsRef<Path>], set: &[String]) -> Result<Config, ConfigError> {
        Layers::read(files, set)?.load()
    }

    /// Reads the text of a pipeline file. The environment has no part in it.
    ///
    /// ```
    /// let config = embedmill::Config::from_yaml("source: { files: { paths: [docs/] } }\nmodel: { backend: hash }\n")?;
    /// assert_eq!(config.source.files.map(|files| files.paths), Some(vec!["docs/".to_string()]));
    /// # Ok::<(), embedmill::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn from_yaml(text: &str) -> Result<Config, ConfigError> {
        Layers::from_texts(&[("pipeline", text)], &[], &[]).load()
    }
}

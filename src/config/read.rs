//! Reads a pipeline file into a [`Config`], in one step.

use std::path::Path;

use super::error::ConfigError;
use super::file::Config;
use super::layers::Layers;

impl Config {
    /// Reads pipeline files. Later files override earlier ones, environment variables (`EMBEDMILL__A__B`) override files,
    /// and `set` (`a.b=value`) overrides both. `${VAR}` in values is expanded from the environment.
    ///
    /// # Errors
    /// The first error, with the file, line and key: a file that cannot be read, invalid YAML, an unknown key, a value of
    /// the wrong type, or a variable that is not set.
    pub fn read(files: &[impl AsRef<Path>], set: &[String]) -> Result<Config, ConfigError> {
        Layers::read(files, set)?.load()
    }

    /// Parses the text of a pipeline file. Environment variables are not used.
    ///
    /// ```
    /// let config = embedmill::Config::from_yaml("source: { files: { paths: [docs/] } }\nmodel: { backend: hash }\n")?;
    /// assert_eq!(config.source.files.map(|files| files.paths), Some(vec!["docs/".to_string()]));
    /// # Ok::<(), embedmill::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// The same as for [`Config::read`].
    pub fn from_yaml(text: &str) -> Result<Config, ConfigError> {
        Layers::from_texts(&[("pipeline", text)], &[], &[]).load()
    }
}

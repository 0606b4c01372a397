//! What reading a model folder asks of the code that will run the model. The `encode` module, above this one, implements it.

use super::LoadError;
use super::config_file::ConfigFile;
use super::script::{Script, ScriptOutput};

/// Knows the model families, and runs a script to see what it returns.
pub(crate) trait ModelRuntime {
    /// The sizes that config.json states for a model of the family `model_type`.
    ///
    /// # Errors
    /// If the family is unknown, or the file has a setting that changes the vectors and that the family does not support.
    fn check(&self, model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError>;

    /// Runs a script on two short texts to find out what it returns. This executes the code in the file.
    ///
    /// # Errors
    /// If the script does not load, or does not return vectors.
    fn probe_script(&self, script: &Script) -> Result<ScriptOutput, LoadError>;
}

/// The sizes of a model by config.json, whatever its family calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Length of a token's vector.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The number of rows of the word embedding. Every token id is below it.
    pub vocab_size: usize,
    /// The maximum number of tokens of a text, or `None` where the architecture does not limit it.
    pub positions: Option<usize>,
}

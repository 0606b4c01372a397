//! What reading a model folder asks of whoever will run the model.

use super::LoadError;
use super::config_file::ConfigFile;
use super::script::{Script, ScriptOutput};

/// Knows the families of models, and runs a script to see what it gives. It is implemented above this room, by what computes.
pub trait ModelRuntime {
    /// The sizes that config.json states for a model of the family `model_type`.
    ///
    /// # Errors
    /// If the family is not known, or the file asks for something that would change the vectors and is not supported.
    fn check(&self, model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError>;

    /// Runs a script on two short texts to find out what it returns. This executes the code in it.
    ///
    /// # Errors
    /// If it does not load, or what it returns are not vectors.
    fn try_script(&self, script: &Script) -> Result<ScriptOutput, LoadError>;
}

/// What config.json says about a model's size, whatever keys its family has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Length of a token's vector.
    pub hidden: usize,
    pub layers: usize,
    /// Rows of the word embedding; every token id is below it.
    pub vocab_size: usize,
    /// Most tokens of a text; none where the architecture has no end.
    pub positions: Option<usize>,
}

impl Sizes {
    /// Of numbers as torch counts; they were read from config.json, so none is negative.
    #[cfg(feature = "torch")]
    pub fn of((hidden, layers): (i64, usize), vocab_size: i64, positions: Option<i64>) -> Sizes {
        let size = |number: i64| number as usize;
        Sizes { hidden: size(hidden), layers, vocab_size: size(vocab_size), positions: positions.map(size) }
    }
}

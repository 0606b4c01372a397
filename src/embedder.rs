//! Texts that are at hand to vectors, without a pipeline: one model, loaded on one device, called from one thread.
//!
//! A pipeline does the same for records that come from somewhere and go somewhere, on all devices at once.

use std::sync::Arc;

use crate::batch::{self, BatchConfig, PaddingMode, TokenBatch};
use crate::columnar::Tokens;
use crate::config::hub_settings;
use crate::device::Devices;
use crate::encode::{EncodeError, Encoder, devices, factory, query_spec, spec};
use crate::matrix::Matrix;
use crate::model::hub::Progress;
use crate::model::tokenizer::{TokenizeError, Tokenizer};
use crate::model::{LoadError, ModelConfig, ModelSpec, OutputValue};

/// A sentence-embedding model that is loaded.
///
/// Its vectors are those of sentence-transformers' `encode`: with the model's own pooling, modules, normalisation and
/// prompt, where [`ModelConfig`] does not set others. A vector depends on its own text alone, to within the rounding of
/// float32, whatever other texts are given with it.
///
/// ```
/// use embedmill::{Backend, Embedder, ModelConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The hash backend needs neither libtorch nor a model: its vectors are near each other where texts share words.
/// // With a real model: `ModelConfig { id: Some("sentence-transformers/all-MiniLM-L6-v2".into()), ..Default::default() }`
/// let config = ModelConfig { backend: Backend::Hash, hash_dim: 256, ..ModelConfig::default() };
/// let mut embedder = Embedder::load(&config)?;
/// let vectors = embedder.embed(&["a red car", "the red car", "entropy"])?;
/// assert_eq!((vectors.rows(), vectors.dim()), (3, 256));
/// let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
/// assert!(cosine(vectors.row(0), vectors.row(1)) > cosine(vectors.row(0), vectors.row(2)));
/// # Ok(())
/// # }
/// ```
pub struct Embedder {
    spec: Arc<ModelSpec>,
    tokenizer: Tokenizer,
    encoder: Box<dyn Encoder>,
}

/// Why texts could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The tokenizer failed on a text.
    #[error("text {index}: {error}")]
    Tokenize {
        /// Index of the text among those given.
        index: usize,
        /// What went wrong.
        error: TokenizeError,
    },
    /// The model failed, or the device's memory does not hold one text.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Embedder {
    /// Finds the model, downloads it where `config.id` is a model id that the cache lacks, and loads it on the first GPU,
    /// else on the CPU. The environment variables of the Hugging Face tools (`HF_HOME`, `HF_TOKEN`, …) apply.
    ///
    /// # Errors
    /// If the model cannot be had, is not supported, or does not load.
    pub fn load(config: &ModelConfig) -> Result<Embedder, LoadError> {
        let config = Embedder::of_texts(config);
        Embedder::from_spec(spec(&config, &hub_settings(&config), &())?)
    }

    /// The same for queries, as sentence-transformers' `encode_query` has it: with the prompt named `query`, where
    /// `config` gives no prompt of its own, and on the Router's route for queries, where the model has one.
    ///
    /// # Errors
    /// As [`Embedder::load`].
    pub fn load_for_queries(config: &ModelConfig) -> Result<Embedder, LoadError> {
        Embedder::load_for_queries_with(config, &())
    }

    /// [`Embedder::load_for_queries`], with its download shown.
    pub(crate) fn load_for_queries_with(config: &ModelConfig, progress: &dyn Progress) -> Result<Embedder, LoadError> {
        let config = Embedder::of_texts(config);
        Embedder::from_spec(query_spec(&config, &hub_settings(&config), progress)?)
    }

    fn of_texts(config: &ModelConfig) -> ModelConfig {
        ModelConfig { value: OutputValue::SentenceEmbedding, ..config.clone() }
    }

    fn from_spec(spec: ModelSpec) -> Result<Embedder, LoadError> {
        let (spec, tokenizer) = (Arc::new(spec.clone()), Tokenizer::load(&spec)?);
        // The CPU is always there, so the list is never empty; with `auto` on a CPU it has one entry per core.
        let device = devices::resolve(&Devices::Auto)?[0];
        let encoder = factory(&spec, &[device])(&device)?;
        Ok(Embedder { spec, tokenizer, encoder })
    }

    /// Length of a text's vector.
    pub fn dim(&self) -> usize {
        self.spec.dim
    }

    /// The model in one line: its id and revision, family, dimensions, pooling and limits.
    pub fn describe(&self) -> String {
        self.spec.describe()
    }

    /// Embeds the texts. Shape of the result: `[texts.len(), dim]`, in the order of the texts. A text of more tokens than
    /// the model takes is truncated, as sentence-transformers does it.
    ///
    /// # Errors
    /// The first text that the tokenizer fails on, or the first batch that the model fails on.
    pub fn embed<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Matrix, EmbedError> {
        let mut tokens = Tokens::default();
        for (index, text) in texts.iter().enumerate() {
            let encoded = self.tokenizer.encode(text.as_ref(), &mut tokens);
            encoded.map_err(|error| EmbedError::Tokenize { index, error })?;
        }
        let lengths: Vec<usize> = (0..tokens.len()).map(|row| tokens.ids(row).len()).collect();
        let padding = if self.spec.script.is_some() { PaddingMode::Padded } else { PaddingMode::Packed };
        let mut vectors = Matrix::zeros(texts.len(), self.dim());
        for plan in batch::plan(&lengths, &BatchConfig::default(), padding) {
            let batch: TokenBatch = plan.rows.iter().map(|&row| tokens.ids(row)).collect();
            let encoded = self.encoder.encode(&batch)?;
            for (index, &row) in plan.rows.iter().enumerate() {
                vectors.row_mut(row).copy_from_slice(encoded.row(index));
            }
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Backend;

    fn embedder(change: impl FnOnce(&mut ModelConfig)) -> Embedder {
        let mut config = ModelConfig { backend: Backend::Hash, hash_dim: 16, ..ModelConfig::default() };
        change(&mut config);
        Embedder::load(&config).expect("the hash backend always loads")
    }

    #[test]
    fn vectors_come_in_the_order_of_the_texts_and_depend_on_their_own_text_alone() {
        let mut embedder = embedder(|_| ());
        let texts = ["a b c d", "a", "", "a b", "a b c d"];
        let together = embedder.embed(&texts).expect("it embeds");
        for (row, text) in texts.iter().enumerate() {
            let alone = embedder.embed(&[text]).expect("it embeds");
            assert_eq!(together.row(row), alone.row(0), "{text:?}");
        }
        assert_eq!(embedder.embed::<&str>(&[]).expect("nothing is fine").rows(), 0);
    }

    #[test]
    fn a_text_alone_has_one_vector_whatever_the_configuration_asks_for() {
        let mut embedder = embedder(|config| config.value = OutputValue::TokenEmbeddings);
        assert_eq!(embedder.embed(&["three words here"]).expect("it embeds").rows(), 1);
    }
}

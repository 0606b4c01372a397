//! Embeds texts that are in memory, without a pipeline: with one model on one device, called from one thread.
//!
//! A pipeline does the same for the records of a source, on all devices at once, and writes the rows to a sink.

use std::sync::Arc;

use crate::batch::{self, BatchConfig, PaddingMode, TokenBatch};
use crate::columnar::Tokens;
use crate::config::hub_settings;
use crate::device::Devices;
use crate::encode::{EncodeError, Encoder, devices, factory, query_spec, spec};
use crate::matrix::Matrix;
use crate::model::hub::DownloadProgress;
use crate::model::tokenizer::{TokenizeError, Tokenizer};
use crate::model::{LoadError, ModelConfig, ModelSpec, OutputValue};

/// A loaded sentence-embedding model.
///
/// Its vectors are those of sentence-transformers' `encode`: with the model's own pooling, modules, normalisation and
/// prompt, unless [`ModelConfig`] overrides them. A vector depends only on its own text, whatever other texts are passed
/// with it, up to the rounding error of float32.
///
/// ```
/// use embedmill::{Backend, Embedder, ModelConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The hash backend needs neither libtorch nor a model: its vectors are close to each other if texts share words.
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
        /// Index of the text among those passed.
        index: usize,
        /// The tokenizer's error.
        error: TokenizeError,
    },
    /// The model failed, or one text does not fit in the memory of the device.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Embedder {
    /// Finds the model, downloads it if `config.id` is a model id that is not in the cache, and loads it on the first GPU,
    /// or on the CPU if there is no GPU. The environment variables of the Hugging Face tools (`HF_HOME`, `HF_TOKEN`, …) apply.
    ///
    /// # Errors
    /// If the model cannot be found or downloaded, is not supported, or cannot be loaded.
    pub fn load(config: &ModelConfig) -> Result<Embedder, LoadError> {
        let config = Embedder::of_texts(config);
        Embedder::from_spec(spec(&config, &hub_settings(&config), &())?)
    }

    /// Loads the model for queries, as sentence-transformers' `encode_query` does: with the prompt named `query` if
    /// `config` has no prompt, and with the Router's route for queries if the model has one.
    ///
    /// # Errors
    /// The same as for [`Embedder::load`].
    pub fn load_for_queries(config: &ModelConfig) -> Result<Embedder, LoadError> {
        Embedder::load_for_queries_with(config, &())
    }

    /// The same as [`Embedder::load_for_queries`], and reports the progress of the download.
    pub(crate) fn load_for_queries_with(
        config: &ModelConfig,
        progress: &dyn DownloadProgress,
    ) -> Result<Embedder, LoadError> {
        let config = Embedder::of_texts(config);
        Embedder::from_spec(query_spec(&config, &hub_settings(&config), progress)?)
    }

    fn of_texts(config: &ModelConfig) -> ModelConfig {
        ModelConfig { value: OutputValue::SentenceEmbedding, ..config.clone() }
    }

    fn from_spec(spec: ModelSpec) -> Result<Embedder, LoadError> {
        let (tokenizer, spec) = (Tokenizer::load(&spec)?, Arc::new(spec));
        // The CPU is always available, so the list is never empty; with `auto` on a CPU it has one entry per core.
        let device = devices::resolve(&Devices::Auto)?[0];
        let encoder = factory(&spec, &[device])(&device)?;
        Ok(Embedder { spec, tokenizer, encoder })
    }

    /// The dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.spec.dim
    }

    /// What the files of the model and the configuration say about it.
    pub(crate) fn spec(&self) -> &Arc<ModelSpec> {
        &self.spec
    }

    /// A description of the model in one line: its id and revision, family, dimensions, pooling and limits.
    pub fn describe(&self) -> String {
        self.spec.describe()
    }

    /// Embeds the texts. The result has the shape `[texts.len(), dim]`, with rows in the order of the texts. A text of more
    /// tokens than the model accepts is truncated, as in sentence-transformers.
    ///
    /// # Errors
    /// If the tokenizer fails on a text, or the model on a batch. The error is that of the first failure.
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

//! Texts in, token ids out: with the model's special tokens, truncated, never padded, and with the number of tokens cut off.
//!
//! There are two tokenizers. With a model folder it is the model's own, with the same ids as sentence-transformers for every text
//! (`model_tokenizer.rs`). Without one, for the hash backend, it is the built-in whitespace tokenizer (`whitespace.rs`). Several
//! threads may use both at once. A long text is tokenised in pieces where that cannot change a token (`split_points.rs`), so that
//! its memory stays bounded.
//!
//! `load.rs` puts a model's tokenizer together from its files: the files beside tokenizer.json are `config.rs`, and they name a
//! class (`class_names.rs`) that has rules of its own (`class.rs`).

mod byte_level;
mod class;
mod class_names;
mod config;
mod error;
mod load;
mod model_tokenizer;
mod scores;
mod split_points;
mod whitespace;

pub(crate) use self::error::TokenizeError;
use self::model_tokenizer::ModelTokenizer;
use super::LoadError;
use super::config_file::ConfigFile;
use super::spec::ModelSpec;
use crate::columnar::Tokens;

/// Turns texts into token ids for one model.
pub struct Tokenizer {
    algorithm: Algorithm,
    prompt: String,
    max_seq_length: usize,
}

enum Algorithm {
    /// The built-in tokenizer of the hash backend.
    Whitespace,
    /// The tokenizer of a model folder.
    Model(Box<ModelTokenizer>),
}

/// Upper bound of `pad_token_id`; no known tokenizer reaches it.
const PAD_ID_MAX: usize = 10_000_000;

/// Two texts to probe a model with, the longer one first, so that the second one is padded.
const PROBE_TEXTS: [&str; 2] = ["the river runs over old stones and a small boat waits", "two farms"];

impl Tokenizer {
    /// The tokenizer of the model's folder, or the whitespace tokenizer without a folder.
    ///
    /// # Errors
    /// If the folder's tokenizer is missing, broken, unsupported or does not fit the model.
    pub fn load(spec: &ModelSpec) -> Result<Tokenizer, LoadError> {
        let algorithm = match &spec.transformer {
            None => Algorithm::Whitespace,
            Some(folder) => Algorithm::Model(Box::new(ModelTokenizer::load(folder, spec)?)),
        };
        Ok(Tokenizer { algorithm, prompt: spec.prompt.clone(), max_seq_length: spec.max_seq_length })
    }

    /// The maximum number of tokens of a text, special tokens included.
    pub fn max_seq_length(&self) -> usize {
        self.max_seq_length
    }

    /// The line of `explain` about the tokenizer.
    pub fn describe(&self) -> String {
        let algorithm = match &self.algorithm {
            Algorithm::Whitespace => "whitespace, hashed ids".to_owned(),
            Algorithm::Model(model) => format!("{}, vocabulary of {} tokens", model.path.display(), model.vocab_size),
        };
        format!("{algorithm}; at most {} tokens a text", self.max_seq_length)
    }

    /// The number of tokens at the beginning of a text that are the prompt's, as sentence-transformers counts them: the tokens of
    /// the prompt as a text of its own, without a special token at its end (`base/modules/transformer.py`,
    /// `_get_prompt_length`).
    ///
    /// # Errors
    /// If the prompt cannot be tokenised.
    pub fn prompt_tokens(&self) -> Result<usize, LoadError> {
        let Algorithm::Model(model) = &self.algorithm else { return Ok(0) };
        let mut alone = Tokens::default();
        model.encode(&self.prompt, self.max_seq_length, &mut alone).map_err(prompt_error)?;
        let ids = alone.ids(0);
        let ends_special = ids.last().is_some_and(|last| model.is_special(*last));
        Ok(ids.len() - usize::from(ends_special))
    }

    /// The token that pads shorter texts of a batch: the tokenizer's, or else config.json's, or else 0.
    ///
    /// # Errors
    /// If config.json has an invalid one.
    pub fn pad_id(&self, config: Option<&ConfigFile>) -> Result<u32, LoadError> {
        let own = match &self.algorithm {
            Algorithm::Whitespace => None,
            Algorithm::Model(model) => model.pad_id,
        };
        match (own, config) {
            (Some(own), _) => Ok(own),
            (None, Some(file)) => Ok(file.count("pad_token_id", 0..=PAD_ID_MAX)?.unwrap_or(0) as u32),
            (None, None) => Ok(0),
        }
    }

    /// The tokens of two texts to probe a model with, the longer one first.
    ///
    /// # Errors
    /// If the prompt cannot be tokenised.
    pub fn probe_texts(&self) -> Result<[Vec<u32>; 2], LoadError> {
        let mut tokens = Tokens::default();
        for text in PROBE_TEXTS {
            self.encode(text, &mut tokens).map_err(prompt_error)?;
        }
        Ok([0, 1].map(|row| tokens.ids(row).to_vec()))
    }

    /// Appends the tokens of one text, with the prompt before it, to `out`. After an error nothing is appended.
    ///
    /// # Errors
    /// If the model's tokenizer fails on the text.
    pub fn encode(&self, text: &str, out: &mut Tokens) -> Result<(), TokenizeError> {
        let prompted;
        let text = if self.prompt.is_empty() {
            text
        } else {
            prompted = format!("{}{text}", self.prompt);
            &prompted
        };
        match &self.algorithm {
            Algorithm::Whitespace => {
                whitespace::encode(text, self.max_seq_length, out);
                Ok(())
            }
            Algorithm::Model(model) => model.encode(text, self.max_seq_length, out),
        }
    }
}

/// Of the texts that are tokenised while a model is read, only the prompt comes from the user.
fn prompt_error(error: TokenizeError) -> LoadError {
    LoadError::Config { key: "model.prompt", message: error.to_string() }
}

#[cfg(test)]
mod tests;

//! The tokenizer of a model folder: texts in, the ids that sentence-transformers gives them out, truncated and counted.
//!
//! Truncation is done here rather than by the tokenizers crate, so that the number of truncated tokens is exact. Fails if the files
//! are broken or do not fit the model; later, if the tokenizers crate fails on a text.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

use super::config::token_text;
use super::error::TokenizeError;
use super::load::{self, LoadedTokenizer};
use super::split_points::SplitPoints;
use crate::columnar::Tokens;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, ModelSpec};

/// The tokenizer of a model folder.
pub(super) struct ModelTokenizer {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The number of tokens in its vocabulary.
    pub vocab_size: usize,
    /// The padding token, if the files name one.
    pub pad_id: Option<u32>,
    pub(super) tokenizer: tokenizers::Tokenizer,
    /// Special tokens before every text.
    prefix: Vec<u32>,
    /// Special tokens after every text.
    suffix: Vec<u32>,
    /// All tokens that the files call special, such as separators, masks and the unknown token.
    special: Vec<u32>,
    pub(super) split_points: SplitPoints,
}

impl ModelTokenizer {
    /// Reads the tokenizer of a model folder.
    ///
    /// # Errors
    /// If its files are missing or broken, do not fit the model, or ask for something that is not supported.
    pub(super) fn load(folder: &Path, spec: &ModelSpec) -> Result<ModelTokenizer, LoadError> {
        let LoadedTokenizer { path, mut tokenizer, json } = load::read(folder, spec.vocab_size)?;
        let refuse = |message: String| LoadError::model(&path, message);
        refuse_unsupported(folder, &path, &json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        if spec.lower_case {
            lowercase_first(&mut tokenizer).map_err(|error| refuse(error.to_string()))?;
        }
        let (prefix, suffix) = special_tokens(&tokenizer).map_err(refuse)?;
        if spec.max_seq_length <= prefix.len() + suffix.len() {
            let added = prefix.len() + suffix.len();
            let message = format!(
                "found {}; expected more than {added}, the number of special tokens that the tokenizer adds to every text",
                spec.max_seq_length
            );
            return Err(LoadError::Config { key: "model.max_seq_length", message });
        }
        let vocab = tokenizer.get_vocab(true);
        if let Some((token, id)) =
            vocab.iter().filter(|(_, id)| **id as usize >= spec.vocab_size).max_by_key(|(_, id)| **id)
        {
            return Err(refuse(format!(
                "token {token:?} has id {id}; expected ids below {}, the model's \"vocab_size\"",
                spec.vocab_size
            )));
        }
        let split_points = SplitPoints::of(&json);
        let special = declared_special_tokens(folder, &tokenizer)?;
        let pad_id = pad_id(folder, &json, &tokenizer)?;
        Ok(ModelTokenizer { path, vocab_size: vocab.len(), pad_id, tokenizer, prefix, suffix, special, split_points })
    }

    /// Whether a token is special, or is added after every text.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.suffix.contains(&id) || self.special.contains(&id)
    }

    /// Appends the tokens of one text to `out`, truncated to `max_seq_length`, with the number of tokens cut off. After an error
    /// nothing is appended.
    ///
    /// # Errors
    /// If the tokenizers crate fails on the text.
    pub(super) fn encode(&self, text: &str, max_seq_length: usize, out: &mut Tokens) -> Result<(), TokenizeError> {
        let text_tokens_max = max_seq_length - self.prefix.len() - self.suffix.len();
        let mut ids = self.prefix.clone();
        let (mut kept, mut truncated) = (0, 0);
        for piece in self.split_points.pieces(text) {
            let encoding = self.tokenizer.encode_fast(piece, false);
            let encoding =
                encoding.map_err(|error| TokenizeError::Failed { bytes: text.len(), message: error.to_string() })?;
            let piece_ids = encoding.get_ids();
            let fitting = piece_ids.len().min(text_tokens_max - kept);
            ids.extend_from_slice(&piece_ids[..fitting]);
            kept += fitting;
            truncated += piece_ids.len() - fitting;
        }
        ids.extend_from_slice(&self.suffix);
        out.push(&ids, u32::try_from(truncated).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// Truncation here cuts off the end of a text, and special tokens in a text stay whole. A tokenizer that works otherwise would
/// give other vectors.
fn refuse_unsupported(folder: &Path, path: &Path, json: &Value) -> Result<(), LoadError> {
    let file = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    if let Some(file) = &file
        && file.flag("split_special_tokens")?
    {
        return Err(file.unexpected("split_special_tokens", &true.into(), "false"));
    }
    if let Some(file) = file
        && let Some(side) = file.text("truncation_side")?
    {
        // The configuration wins over tokenizer.json, as it does in transformers.
        let refused = file.unexpected("truncation_side", &side.into(), "\"right\"");
        return if side == "right" { Ok(()) } else { Err(refused) };
    }
    match json["truncation"]["direction"].as_str() {
        Some("Left") => {
            let message = "\"truncation.direction\": found \"Left\"; expected \"Right\"";
            Err(LoadError::model(path, message))
        }
        _ => Ok(()),
    }
}

/// `do_lower_case` of sentence_bert_config.json: texts are lowercased before the tokenizer's own normalizer, unless that
/// lowercases too.
fn lowercase_first(tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    let own = tokenizer.get_normalizer().cloned();
    if own.as_ref().is_some_and(lowercases) {
        return Ok(());
    }
    let lowercase = NormalizerWrapper::from(Lowercase);
    let all = match own {
        Some(own) => NormalizerWrapper::from(Sequence::new(vec![lowercase, own])),
        None => lowercase,
    };
    tokenizer.with_normalizer(Some(all))?;
    Ok(())
}

fn lowercases(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(lowercases),
        _ => false,
    }
}

/// The tokens that the files call special, as in `"sep_token": "[SEP]"`.
fn declared_special_tokens(folder: &Path, tokenizer: &tokenizers::Tokenizer) -> Result<Vec<u32>, LoadError> {
    let mut special = Vec::new();
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let Some(file) = ConfigFile::read(folder.join(name))? else { continue };
        for (key, value) in &file.json {
            let tokens = match value {
                Value::Array(tokens) if key.ends_with("special_tokens") => tokens.as_slice(),
                token if key.ends_with("_token") => std::slice::from_ref(token),
                _ => continue,
            };
            let texts = tokens.iter().filter_map(token_text);
            special.extend(texts.filter_map(|text| tokenizer.token_to_id(text)));
        }
    }
    special.sort_unstable();
    special.dedup();
    Ok(special)
}

/// The id of `pad_token` of tokenizer_config.json, or else of the padding that tokenizer.json describes.
fn pad_id(folder: &Path, json: &Value, tokenizer: &tokenizers::Tokenizer) -> Result<Option<u32>, LoadError> {
    let file = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    let token = file.as_ref().and_then(|file| file.get("pad_token"));
    let text = token.and_then(token_text);
    let described = || json["padding"]["pad_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    Ok(text.and_then(|text| tokenizer.token_to_id(text)).or_else(described))
}

/// The special tokens that the tokenizer adds before and after every text, found by tokenising two texts.
fn special_tokens(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let ids = |text: &str, special: bool| {
        let encoding = tokenizer.encode_fast(text, special);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| format!("the tokenizer fails on a short text: {error}"))
    };
    let around = ids("", true)?;
    let (bare, whole) = (ids("a", false)?, ids("a", true)?);
    let split = (0..=around.len()).find(|&split| [&around[..split], &bare, &around[split..]].concat() == whole);
    match split {
        Some(split) => Ok((around[..split].to_vec(), around[split..].to_vec())),
        None => {
            Err("unsupported post-processor; expected one that adds special tokens only before and after a text".into())
        }
    }
}

//! Texts in, token ids out: with the model's special tokens, truncated, never padded, and with the count of what was cut.
//!
//! Two bodies. The model's own tokenizer.json, with the same ids as sentence-transformers for every text; and, for the
//! hash backend without a model, a built-in one that splits words. Both can be used from several threads at once.
//! Truncation is done here rather than in the tokenizers crate, so that the number of tokens that were cut off is exact.
//! A long text is tokenised in pieces that end where a cut cannot change a token, so that its memory stays bounded;
//! where no such place is known, it is tokenised whole.

mod class;
mod config;
mod load;
mod names;
mod scores;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

use self::load::Found;
use super::LoadError;
use super::config_file::ConfigFile;
use super::spec::ModelSpec;
use crate::columnar::Tokens;
use crate::failure::Failure;

/// Turns texts into token sequences for one model.
pub struct Tokenizer {
    body: Body,
    prompt: String,
    max_seq_length: usize,
}

enum Body {
    Words,
    Model(Box<ModelTokenizer>),
}

#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    #[error("the tokenizer failed on a text of {bytes} bytes: {message}")]
    Failed { bytes: usize, message: String },
}

impl TokenizeError {
    /// The same text fails again: it is the record's fault.
    pub fn failure(&self) -> Failure {
        Failure::Poison
    }
}

impl Tokenizer {
    /// The tokenizer of the model's folder, or the words tokenizer where there is no folder.
    pub fn load(spec: &ModelSpec) -> Result<Tokenizer, LoadError> {
        let body = match &spec.transformer {
            None => Body::Words,
            Some(folder) => Body::Model(Box::new(ModelTokenizer::load(folder, spec)?)),
        };
        Ok(Tokenizer { body, prompt: spec.prompt.clone(), max_seq_length: spec.max_seq_length })
    }

    /// Most tokens of a sequence, special tokens included.
    pub fn max_seq_length(&self) -> usize {
        self.max_seq_length
    }

    /// One line for `explain`.
    pub fn describe(&self) -> String {
        let body = match &self.body {
            Body::Words => "words, hashed".to_owned(),
            Body::Model(model) => format!("{}, {} tokens known", model.path.display(), model.known),
        };
        format!("{body}; at most {} tokens a text", self.max_seq_length)
    }

    /// How many tokens at a text's beginning are the prompt's, by sentence-transformers' count: those of the prompt as a text
    /// of its own, but for a special token at its end (`base/modules/transformer.py`, `_get_prompt_length`).
    ///
    /// # Errors
    /// If the prompt cannot be tokenised: `model.prompt` is to blame.
    pub fn prompt_tokens(&self) -> Result<usize, LoadError> {
        let Body::Model(model) = &self.body else { return Ok(0) };
        let mut alone = Tokens::default();
        let encoded = model.encode(&self.prompt, self.max_seq_length, &mut alone);
        encoded.map_err(|error| LoadError::Config { key: "model.prompt", message: error.to_string() })?;
        let ids = alone.ids(0);
        let ends_special = ids.last().is_some_and(|last| model.is_special(*last));
        Ok(ids.len() - usize::from(ends_special))
    }

    /// What shorter sequences of a padded batch are filled up with: the tokenizer's padding token, else what config.json says.
    pub fn pad_id(&self, config: Option<&ConfigFile>) -> Result<u32, LoadError> {
        let own = match &self.body {
            Body::Words => None,
            Body::Model(model) => model.padding,
        };
        match (own, config) {
            (Some(own), _) => Ok(own),
            (None, Some(file)) => Ok(file.count("pad_token_id", 0..=PAD_ID_MAX)?.unwrap_or(0) as u32),
            (None, None) => Ok(0),
        }
    }

    /// Two texts to try a model with, the longer one first.
    pub fn trial(&self) -> Result<[Vec<u32>; 2], LoadError> {
        let mut tokens = Tokens::default();
        for text in ["the river runs over old stones and a small boat waits", "two farms"] {
            let encoded = self.encode(text, &mut tokens);
            encoded.map_err(|error| LoadError::Config { key: "model.prompt", message: error.to_string() })?;
        }
        Ok([0, 1].map(|row| tokens.ids(row).to_vec()))
    }

    /// Adds the sequence of one text to `out`; after an error nothing was added.
    pub fn encode(&self, text: &str, out: &mut Tokens) -> Result<(), TokenizeError> {
        let prompted;
        let text = if self.prompt.is_empty() {
            text
        } else {
            prompted = format!("{}{text}", self.prompt);
            &prompted
        };
        match &self.body {
            Body::Words => {
                encode_words(text, self.max_seq_length, out);
                Ok(())
            }
            Body::Model(model) => model.encode(text, self.max_seq_length, out),
        }
    }
}

/// The words tokenizer: a token is a run of letters and digits, lowered, or one other character that is no white space.
/// Its id is a hash of its characters, so there is no vocabulary and nothing is unknown.
fn encode_words(text: &str, max_seq_length: usize, out: &mut Tokens) {
    // FNV-1a (Fowler, Noll and Vo), by character: simple, and the same for ever on every machine.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    let step = |hash: u64, c: char| (hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3);
    let mut ids = Vec::new();
    let mut cut = 0u32;
    let mut add = |hash: u64| {
        if ids.len() < max_seq_length {
            // The two halves together, and 31 bits of them: see `modules::WORDS_VOCAB`.
            ids.push((hash ^ (hash >> 32)) as u32 & 0x7fff_ffff);
        } else {
            cut = cut.saturating_add(1);
        }
    };
    let mut word = None;
    for c in text.chars() {
        if c.is_alphanumeric() {
            word = Some(c.to_lowercase().fold(word.unwrap_or(BASIS), step));
            continue;
        }
        word.take().map(&mut add);
        if !c.is_whitespace() {
            add(step(BASIS, c));
        }
    }
    word.map(&mut add);
    out.push(&ids, cut);
}

/// A tokenizer.json, with what the model around it says.
struct ModelTokenizer {
    path: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    /// Special tokens before and after every sequence.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// Special tokens by the files' own word: separators, masks, the unknown token and the like.
    special: Vec<u32>,
    /// The padding token, where the files name one.
    padding: Option<u32>,
    /// How many tokens it knows.
    known: usize,
    cuts: Cuts,
}

/// More tokens than any tokenizer knows.
const PAD_ID_MAX: usize = 10_000_000;
/// A text longer than this is tokenised in pieces of about this many bytes. Large enough that the pieces' overhead is
/// nothing, small enough that a piece's tokens, some 100 bytes a byte of text, are a few megabytes.
const PIECE_BYTES: usize = 32 << 10;

impl ModelTokenizer {
    fn load(folder: &Path, spec: &ModelSpec) -> Result<ModelTokenizer, LoadError> {
        let Found { path, mut tokenizer, json } = load::read(folder, spec.vocab_size)?;
        let refuse = |message: String| LoadError::model(&path, message);
        refuse_other_ways(folder, &path, &json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        if spec.lower_case {
            lower_first(&mut tokenizer).map_err(|error| refuse(error.to_string()))?;
        }
        let (prefix, suffix) = special_tokens(&tokenizer).map_err(refuse)?;
        if spec.max_seq_length <= prefix.len() + suffix.len() {
            let added = prefix.len() + suffix.len();
            let message =
                format!("is {}, but the tokenizer adds {added} special tokens to every text", spec.max_seq_length);
            return Err(LoadError::Config { key: "model.max_seq_length", message });
        }
        let vocab = tokenizer.get_vocab(true);
        if let Some((token, id)) =
            vocab.iter().filter(|(_, id)| **id as usize >= spec.vocab_size).max_by_key(|(_, id)| **id)
        {
            return Err(refuse(format!(
                "does not fit the weights: its token {token:?} has id {id}, the model's `vocab_size` is {}",
                spec.vocab_size
            )));
        }
        let cuts = Cuts::of(&json);
        let special = named_special(folder, &tokenizer)?;
        let padding = padding(folder, &json, &tokenizer)?;
        Ok(ModelTokenizer { path, known: vocab.len(), tokenizer, prefix, suffix, special, padding, cuts })
    }

    fn is_special(&self, id: u32) -> bool {
        self.suffix.contains(&id) || self.special.contains(&id)
    }

    fn encode(&self, text: &str, max_seq_length: usize, out: &mut Tokens) -> Result<(), TokenizeError> {
        let room = max_seq_length - self.prefix.len() - self.suffix.len();
        let mut ids = self.prefix.clone();
        let (mut kept, mut cut) = (0, 0);
        for piece in self.cuts.pieces(text) {
            let encoding = self.tokenizer.encode_fast(piece, false);
            let encoding =
                encoding.map_err(|error| TokenizeError::Failed { bytes: text.len(), message: error.to_string() })?;
            let found = encoding.get_ids();
            let taken = found.len().min(room - kept);
            ids.extend_from_slice(&found[..taken]);
            kept += taken;
            cut += found.len() - taken;
        }
        ids.extend_from_slice(&self.suffix);
        out.push(&ids, u32::try_from(cut).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// Truncation takes tokens off the end here, and special tokens in a text stay whole; a tokenizer that does it otherwise
/// gives other vectors.
fn refuse_other_ways(folder: &Path, path: &Path, json: &Value) -> Result<(), LoadError> {
    let file = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    if let Some(file) = &file
        && file.flag("split_special_tokens")?
    {
        return Err(file.error("`split_special_tokens` is true, which this version does not support"));
    }
    if let Some(file) = file
        && let Some(side) = file.text("truncation_side")?
    {
        // The configuration wins over tokenizer.json, as it does in transformers.
        let refused = file.error(format!("`truncation_side` is {side:?}; only \"right\" is supported"));
        return if side == "right" { Ok(()) } else { Err(refused) };
    }
    match json["truncation"]["direction"].as_str() {
        Some("Left") => Err(LoadError::model(path, "`truncation.direction` is \"Left\"; only \"Right\" is supported")),
        _ => Ok(()),
    }
}

/// `do_lower_case` of sentence_bert_config.json: lowering comes before the tokenizer's own rules, unless they lower too.
fn lower_first(tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    let own = tokenizer.get_normalizer().cloned();
    if own.as_ref().is_some_and(lowers) {
        return Ok(());
    }
    let lower = NormalizerWrapper::from(Lowercase);
    let all = match own {
        Some(own) => NormalizerWrapper::from(Sequence::new(vec![lower, own])),
        None => lower,
    };
    tokenizer.with_normalizer(Some(all))?;
    Ok(())
}

fn lowers(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(lowers),
        _ => false,
    }
}

/// The tokens that the configuration calls special, as in `"sep_token": "[SEP]"`.
fn named_special(folder: &Path, tokenizer: &tokenizers::Tokenizer) -> Result<Vec<u32>, LoadError> {
    let mut special = Vec::new();
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let Some(file) = ConfigFile::read(folder.join(name))? else { continue };
        for (key, value) in &file.json {
            let tokens = match value {
                Value::Array(tokens) if key.ends_with("special_tokens") => tokens.as_slice(),
                token if key.ends_with("_token") => std::slice::from_ref(token),
                _ => continue,
            };
            let texts = tokens.iter().filter_map(load::text_of);
            special.extend(texts.filter_map(|text| tokenizer.token_to_id(text)));
        }
    }
    special.sort_unstable();
    special.dedup();
    Ok(special)
}

/// The id of `pad_token` of tokenizer_config.json, else of the padding that tokenizer.json describes.
fn padding(folder: &Path, json: &Value, tokenizer: &tokenizers::Tokenizer) -> Result<Option<u32>, LoadError> {
    let file = ConfigFile::read(folder.join("tokenizer_config.json"))?;
    let token = file.as_ref().and_then(|file| file.get("pad_token"));
    let text = token.and_then(load::text_of);
    let described = || json["padding"]["pad_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    Ok(text.and_then(|text| tokenizer.token_to_id(text)).or_else(described))
}

/// What the tokenizer puts before and after every single sequence, found by trying.
fn special_tokens(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let ids = |text: &str, special: bool| {
        let encoding = tokenizer.encode_fast(text, special);
        encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|error| format!("cannot be used: {error}"))
    };
    let around = ids("", true)?;
    let (bare, whole) = (ids("a", false)?, ids("a", true)?);
    let split = (0..=around.len()).find(|&split| [&around[..split], &bare, &around[split..]].concat() == whole);
    match split {
        Some(split) => Ok((around[..split].to_vec(), around[split..].to_vec())),
        None => {
            Err("adds special tokens in a way that this version does not know: not before and after the text".into())
        }
    }
}

/// Where a text may be cut in two such that the tokens of the parts are the tokens of the whole.
///
/// Known for BERT's way of splitting: white space, ideographs and ASCII punctuation each end the word before them, and
/// none of them composes with a character before it under any Unicode normal form. A character inside an added token's
/// text is no place to cut, because the token is matched before words are split.
///
/// And for the byte-level ways of GPT-2, Llama 3 and Qwen 2: a single space between two ASCII letters or digits begins a word,
/// or is one, whatever stands further away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cuts {
    /// Nothing is known: never cut.
    never: bool,
    /// Words are split as GPT-2 or its followers split them: only a space between letters or digits is a place to cut.
    byte_level: bool,
    /// Ideographs are split off by the normaliser.
    ideographs: bool,
    /// Punctuation is split off by the pre-tokenizer.
    punctuation: bool,
    /// Characters that stand in added tokens, but for their first.
    inside_tokens: Vec<char>,
}

impl Cuts {
    fn of(tokenizer: &Value) -> Cuts {
        let pre_tokenizers = steps(&tokenizer["pre_tokenizer"], "pretokenizers");
        let normalizers = steps(&tokenizer["normalizer"], "normalizers");
        let no_tokens = Vec::new();
        let added = tokenizer["added_tokens"].as_array().unwrap_or(&no_tokens);
        let inside = added.iter().flat_map(|token| token["content"].as_str().unwrap_or_default().chars().skip(1));
        let is = |step: &Value, known: &[&str]| known.iter().any(|known| step["type"] == *known);
        // What splits words by white space, and what then only looks at one word.
        let splits = |step: &Value| is(step, &["BertPreTokenizer", "Whitespace", "WhitespaceSplit"]);
        let by_word = |step: &Value| {
            splits(step)
                || is(step, &["Punctuation", "Digits"])
                || (is(step, &["Metaspace"]) && step["prepend_scheme"] == "always")
        };
        let by_character = ["BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"];
        let byte_level = is_byte_level(&pre_tokenizers)
            && normalizers.iter().all(|step| is(step, &by_character[1..]))
            && !added.iter().any(takes_spaces);
        Cuts {
            byte_level,
            never: !pre_tokenizers.first().is_some_and(|first| splits(first))
                || !pre_tokenizers.iter().all(|step| by_word(step))
                || !normalizers.iter().all(|step| is(step, &by_character))
                || added.iter().any(|token| token["single_word"] == true),
            ideographs: normalizers.iter().any(|step| step["handle_chinese_chars"] == true),
            punctuation: pre_tokenizers.first().is_some_and(|first| first["type"] == "BertPreTokenizer"),
            inside_tokens: inside.collect(),
        }
    }

    /// Whether the text may be cut before this character, which stands at this byte, not the first.
    fn before(&self, text: &str, at: usize, c: char) -> bool {
        if self.byte_level {
            let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let (before, after) = (text.as_bytes().get(at - 1), text.as_bytes().get(at + 1));
            return c == ' ' && is_word(before) && is_word(after) && !self.inside_tokens.contains(&c);
        }
        let splits = matches!(c, ' ' | '\n')
            || (self.ideographs && ('\u{4E00}'..='\u{9FFF}').contains(&c))
            || (self.punctuation && c.is_ascii_punctuation());
        splits && !self.inside_tokens.contains(&c)
    }

    /// The text in pieces: itself, where it is short or nothing is known about cuts.
    fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.pieces_of(text, PIECE_BYTES)
    }

    fn pieces_of<'a>(&'a self, text: &'a str, bytes: usize) -> impl Iterator<Item = &'a str> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let (piece, after) = text.split_at(self.piece_end(text, bytes));
            rest = (!after.is_empty()).then_some(after);
            Some(piece)
        })
    }

    fn piece_end(&self, text: &str, bytes: usize) -> usize {
        if (self.never && !self.byte_level) || text.len() <= bytes {
            return text.len();
        }
        let from = text.floor_char_boundary(bytes);
        let cut = text[from..].char_indices().find(|(index, c)| self.before(text, from + index, *c));
        cut.map_or(text.len(), |(index, _)| from + index)
    }
}

/// How Llama 3 and Qwen 2 split words before their bytes are looked at.
const BYTE_LEVEL_SPLITS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// Whether these pre-tokenizers are a byte-level way that is known.
fn is_byte_level(steps: &[&Value]) -> bool {
    let splits_itself = |step: &Value| step["use_regex"] != false;
    match steps {
        [only] => only["type"] == "ByteLevel" && splits_itself(only),
        [split, bytes] => {
            let pattern = split["pattern"]["Regex"].as_str();
            split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] != true
                && pattern.is_some_and(|pattern| BYTE_LEVEL_SPLITS.contains(&pattern))
                && bytes["type"] == "ByteLevel"
                && !splits_itself(bytes)
        }
        _ => false,
    }
}

/// Whether an added token looks at what stands beside it, where that may be a space between words.
fn takes_spaces(token: &Value) -> bool {
    let begins_a_word = token["content"].as_str().is_some_and(|text| text.starts_with(char::is_alphanumeric));
    token["single_word"] == true || token["rstrip"] == true || (token["lstrip"] == true && begins_a_word)
}

/// A normalizer's or pre-tokenizer's steps: those of a Sequence, itself, or none.
fn steps<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value {
        Value::Null => Vec::new(),
        _ if value["type"] == "Sequence" => {
            value[list].as_array().map(|steps| steps.iter().collect()).unwrap_or_default()
        }
        _ => vec![value],
    }
}

#[cfg(test)]
mod tests;

//! A long text in, pieces of it out whose tokens, one piece after the other, are the tokens of the whole text.
//!
//! Tokenising in pieces bounds the memory. It is possible where a split cannot change a token:
//!
//! - For BERT's way of splitting words: white space, ideographs and ASCII punctuation each end the word before them, and none of
//!   them composes with a character before it under any Unicode normal form.
//! - For the byte-level ways of GPT-2, Llama 3 and Qwen 2: a single space between two ASCII letters or digits begins a word, or is
//!   one, whatever is further away.
//!
//! A text is not split inside an added token, because those are matched before words are split. With any other tokenizer a text
//! stays whole.

use serde_json::Value;

use super::byte_level::{LLAMA3_SPLIT, QWEN2_SPLIT};

/// A text longer than this is tokenised in pieces of about this many bytes. It is large enough that the overhead of a piece is
/// negligible, and small enough that the tokens of a piece, some 100 bytes per byte of text, are a few megabytes.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// The rules of one tokenizer for where a text may be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SplitPoints {
    /// Whether BERT's rules do not hold for this tokenizer.
    never: bool,
    /// Whether the byte-level rule holds: a text is split only at a space between letters or digits.
    byte_level: bool,
    /// Whether the normalizer splits ideographs off.
    ideographs: bool,
    /// Whether the pre-tokenizer splits punctuation off.
    punctuation: bool,
    /// The characters of all added tokens, except the first of each.
    inside_tokens: Vec<char>,
}

impl SplitPoints {
    /// The rules for a tokenizer.json.
    pub(super) fn of(tokenizer: &Value) -> SplitPoints {
        let pre_tokenizers = steps(&tokenizer["pre_tokenizer"], "pretokenizers");
        let normalizers = steps(&tokenizer["normalizer"], "normalizers");
        let no_tokens = Vec::new();
        let added = tokenizer["added_tokens"].as_array().unwrap_or(&no_tokens);
        let inside = added.iter().flat_map(|token| token["content"].as_str().unwrap_or_default().chars().skip(1));
        let is = |step: &Value, types: &[&str]| types.iter().any(|name| step["type"] == *name);
        // Pre-tokenizers that split words at white space, and those that then look at one word only.
        let splits_at_space = |step: &Value| is(step, &["BertPreTokenizer", "Whitespace", "WhitespaceSplit"]);
        let by_word = |step: &Value| {
            splits_at_space(step)
                || is(step, &["Punctuation", "Digits"])
                || (is(step, &["Metaspace"]) && step["prepend_scheme"] == "always")
        };
        let per_character = ["BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"];
        let byte_level = is_byte_level(&pre_tokenizers)
            && normalizers.iter().all(|step| is(step, &per_character[1..]))
            && !added.iter().any(may_take_space);
        SplitPoints {
            byte_level,
            never: !pre_tokenizers.first().is_some_and(|first| splits_at_space(first))
                || !pre_tokenizers.iter().all(|step| by_word(step))
                || !normalizers.iter().all(|step| is(step, &per_character))
                || added.iter().any(|token| token["single_word"] == true),
            ideographs: normalizers.iter().any(|step| step["handle_chinese_chars"] == true),
            punctuation: pre_tokenizers.first().is_some_and(|first| first["type"] == "BertPreTokenizer"),
            inside_tokens: inside.collect(),
        }
    }

    /// Whether the text may be split before the character `c` at the byte `at`, which is not the first one.
    fn is_before(&self, text: &str, at: usize, c: char) -> bool {
        if self.byte_level {
            let is_word_byte = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let (before, after) = (text.as_bytes().get(at - 1), text.as_bytes().get(at + 1));
            return c == ' ' && is_word_byte(before) && is_word_byte(after) && !self.inside_tokens.contains(&c);
        }
        let splits = matches!(c, ' ' | '\n')
            || (self.ideographs && ('\u{4E00}'..='\u{9FFF}').contains(&c))
            || (self.punctuation && c.is_ascii_punctuation());
        splits && !self.inside_tokens.contains(&c)
    }

    /// The text in pieces of about [`PIECE_BYTES`]; in one piece if it is short or cannot be split.
    pub(super) fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.pieces_of(text, PIECE_BYTES)
    }

    /// The text in pieces of about `bytes` bytes, or more where it cannot be split.
    pub(super) fn pieces_of<'a>(&'a self, text: &'a str, bytes: usize) -> impl Iterator<Item = &'a str> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let (piece, after) = text.split_at(self.piece_end(text, bytes));
            rest = (!after.is_empty()).then_some(after);
            Some(piece)
        })
    }

    /// The byte at which the first piece of `text` ends.
    fn piece_end(&self, text: &str, bytes: usize) -> usize {
        if (self.never && !self.byte_level) || text.len() <= bytes {
            return text.len();
        }
        let from = text.floor_char_boundary(bytes);
        let split = text[from..].char_indices().find(|(index, c)| self.is_before(text, from + index, *c));
        split.map_or(text.len(), |(index, _)| from + index)
    }
}

/// Whether these pre-tokenizers split words as GPT-2, Llama 3 or Qwen 2 do.
fn is_byte_level(steps: &[&Value]) -> bool {
    let uses_regex = |step: &Value| step["use_regex"] != false;
    match steps {
        [only] => only["type"] == "ByteLevel" && uses_regex(only),
        [split, bytes] => {
            let pattern = split["pattern"]["Regex"].as_str();
            split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] != true
                && pattern.is_some_and(|pattern| [QWEN2_SPLIT, LLAMA3_SPLIT].contains(&pattern))
                && bytes["type"] == "ByteLevel"
                && !uses_regex(bytes)
        }
        _ => false,
    }
}

/// Whether an added token may match beyond its own text, and so take a space between words.
fn may_take_space(token: &Value) -> bool {
    let begins_a_word = token["content"].as_str().is_some_and(|text| text.starts_with(char::is_alphanumeric));
    token["single_word"] == true || token["rstrip"] == true || (token["lstrip"] == true && begins_a_word)
}

/// The steps of a normalizer or pre-tokenizer: those of a Sequence, or itself, or none.
fn steps<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value {
        Value::Null => Vec::new(),
        _ if value["type"] == "Sequence" => {
            value[list].as_array().map(|steps| steps.iter().collect()).unwrap_or_default()
        }
        _ => vec![value],
    }
}

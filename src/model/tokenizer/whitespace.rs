//! The whitespace tokenizer, which the hash backend uses without a model: a text in, token ids out.
//!
//! A token is a run of letters and digits in lower case, or one other character that is not white space. Its id is a hash of
//! its characters, so there is no vocabulary and no token is unknown. It never fails.

use crate::columnar::Tokens;

// FNV-1a (Fowler, Noll and Vo), over characters instead of bytes. The same text has the same ids on every machine.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

fn hash_char(hash: u64, c: char) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(FNV_PRIME)
}

/// Folds a hash to a token id below [`HASH_VOCAB_SIZE`](crate::model::spec::HASH_VOCAB_SIZE).
fn token_id(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32 & 0x7fff_ffff
}

/// Appends the ids of one text to `out`: at most `max_seq_length`, and how many more the text has.
pub(super) fn encode(text: &str, max_seq_length: usize, out: &mut Tokens) {
    let mut ids = Vec::new();
    let mut truncated = 0u32;
    let mut add = |hash: u64| {
        if ids.len() < max_seq_length {
            ids.push(token_id(hash));
        } else {
            truncated = truncated.saturating_add(1);
        }
    };
    let mut word = None;
    for c in text.chars() {
        if c.is_alphanumeric() {
            word = Some(c.to_lowercase().fold(word.unwrap_or(FNV_OFFSET_BASIS), hash_char));
            continue;
        }
        word.take().map(&mut add);
        if !c.is_whitespace() {
            add(hash_char(FNV_OFFSET_BASIS, c));
        }
    }
    word.map(&mut add);
    out.push(&ids, truncated);
}

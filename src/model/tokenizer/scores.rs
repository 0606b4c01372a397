//! The text of a tokenizer.json in, the pieces and scores of its Unigram vocabulary out, with the scores read exactly.
//!
//! serde_json's fast parser may be off by one in the last bit of a number, and Python's is not. That bit matters: it decides between
//! two segmentations of a text whose scores have the same sum.

/// The pieces and scores; `None` if the text has no list of them.
pub(super) fn unigram_scores(text: &str) -> Option<Vec<(String, f64)>> {
    let list = text.match_indices("\"vocab\"").find_map(|(at, key)| {
        // A piece that reads "vocab" has no colon after it, so this is the key.
        text[at + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')
    });
    let mut rest = list?.trim_start();
    let mut pieces = Vec::new();
    while let Some(entry) = rest.strip_prefix('[') {
        let mut strings = serde_json::Deserializer::from_str(entry).into_iter::<String>();
        let piece = strings.next()?.ok()?;
        let after = entry[strings.byte_offset()..].trim_start().strip_prefix(',')?.trim_start();
        let end = after.find(|c: char| c == ']' || c.is_whitespace())?;
        pieces.push((piece, after[..end].parse().ok()?));
        rest = after[end..].trim_start().strip_prefix(']')?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    rest.starts_with(']').then_some(pieces)
}

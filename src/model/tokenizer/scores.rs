//! The pieces and scores of a Unigram vocabulary, to the last bit.

/// The pieces and scores of a tokenizer.json, as Python reads numbers: to the last bit, which serde_json's fast way does not.
/// Between two ways to cut a text with the same sum, that bit decides.
pub fn scores(text: &str) -> Option<Vec<(String, f64)>> {
    let opened = text.match_indices("\"vocab\"").find_map(|(at, key)| {
        // A piece of this text has no colon after it.
        text[at + key.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')
    });
    let mut rest = opened?.trim_start();
    let mut found = Vec::new();
    while let Some(entry) = rest.strip_prefix('[') {
        let mut strings = serde_json::Deserializer::from_str(entry).into_iter::<String>();
        let piece = strings.next()?.ok()?;
        let after = entry[strings.byte_offset()..].trim_start().strip_prefix(',')?.trim_start();
        let end = after.find(|c: char| c == ']' || c.is_whitespace())?;
        found.push((piece, after[..end].parse().ok()?));
        rest = after[end..].trim_start().strip_prefix(']')?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    rest.starts_with(']').then_some(found)
}

//! The size of a YAML text after its aliases are expanded, computed without expanding them.
//!
//! Nine lines of nested aliases can expand to a billion values (the "billion laughs" attack), so the size is checked
//! before the text is loaded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// The line, counted from 1, at which the expanded text exceeds `nodes_max` values; `None` if it never does.
///
/// Invalid YAML counts up to its first mistake, which the caller reports by itself.
pub(crate) fn line_over(text: &str, nodes_max: u64) -> Option<usize> {
    let mut sizes: HashMap<usize, u64> = HashMap::new();
    // Anchor and size so far of each open list and map. The outermost entry is the whole text.
    let mut open: Vec<(usize, u64)> = vec![(0, 0)];
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let size = match event {
            Event::Scalar(_, _, anchor, _) => {
                sizes.insert(anchor, 1);
                1
            }
            Event::Alias(anchor) => sizes.get(&anchor).copied().unwrap_or(1),
            Event::MappingStart(anchor, _) | Event::SequenceStart(anchor, _) => {
                open.push((anchor, 1));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd if open.len() > 1 => {
                let (anchor, size) = open.pop().unwrap_or_default();
                sizes.insert(anchor, size);
                size
            }
            _ => continue,
        };
        if let Some((_, whole)) = open.last_mut() {
            *whole = whole.saturating_add(size);
            if *whole > nodes_max {
                return Some(span.start.line());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_aliases_are_counted_without_expansion() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
        }
        assert_eq!(line_over(&text, 10_000), Some(4));
        assert_eq!(line_over("a: &a {b: 1}\nc: *a\nd: [*a, *a]\n", 20), None);
        assert_eq!(line_over("a: [1, 2, 3", 100), None);
    }
}

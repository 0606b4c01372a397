//! A column of token sequences: all ids end to end in one buffer.

/// Token sequences end to end: ids with the model's special tokens, already truncated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    ends: Vec<usize>,
    truncated: Vec<u32>,
}

impl Tokens {
    /// Adds a sequence; `truncated` tokens more were cut off from it.
    pub fn push(&mut self, ids: &[u32], truncated: u32) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
        self.truncated.push(truncated);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn ids(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.ids[start..self.ends[index]]
    }

    /// How many tokens truncation cut off from sequence `index`.
    pub fn truncated(&self, index: usize) -> u32 {
        self.truncated[index]
    }

    /// Keeps the first `at` sequences and returns the others.
    pub fn split_off(&mut self, at: usize) -> Tokens {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let ends = self.ends.split_off(at);
        Tokens {
            ids: self.ids.split_off(start),
            ends: ends.into_iter().map(|end| end - start).collect(),
            truncated: self.truncated.split_off(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_split_where_asked() {
        let all: [&[u32]; 4] = [&[1], &[], &[2, 3, 4], &[5]];
        for at in 0..=all.len() {
            let mut head = Tokens::default();
            for (index, ids) in all.iter().enumerate() {
                head.push(ids, index as u32);
            }
            let tail = head.split_off(at);
            for (index, ids) in all.iter().enumerate() {
                let (part, place) = if index < at { (&head, index) } else { (&tail, index - at) };
                assert_eq!((part.ids(place), part.truncated(place)), (*ids, index as u32));
            }
        }
    }
}

//! A column of token sequences in one buffer.

/// A column of token sequences, concatenated in one buffer. Ids include the model's special tokens; sequences are
/// truncated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    /// Where each sequence ends in `ids`.
    ends: Vec<usize>,
    /// How many tokens of each sequence were truncated.
    truncated: Vec<u32>,
}

impl Tokens {
    /// Appends a sequence from which `truncated` tokens were removed.
    pub fn push(&mut self, ids: &[u32], truncated: u32) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
        self.truncated.push(truncated);
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The token ids of sequence `index`.
    pub fn ids(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.ids[start..self.ends[index]]
    }

    /// How many tokens truncation removed from sequence `index`.
    pub fn truncated(&self, index: usize) -> u32 {
        self.truncated[index]
    }

    /// Keeps the first `at` sequences and returns the rest.
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
                let (part, in_part) = if index < at { (&head, index) } else { (&tail, index - at) };
                assert_eq!((part.ids(in_part), part.truncated(in_part)), (*ids, index as u32));
            }
        }
    }
}

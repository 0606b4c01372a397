//! A column of strings in one buffer.

/// A column of strings, concatenated in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<usize>,
}

impl Strings {
    /// Appends a string.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`.
    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// All strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The buffer: all strings, concatenated.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The total length of all strings, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Keeps the first `at` strings and returns the rest.
    pub fn split_off(&mut self, at: usize) -> Strings {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let ends = self.ends.split_off(at);
        let text = self.text.split_off(start);
        Strings { text, ends: ends.into_iter().map(|end| end - start).collect() }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let mut strings = Strings::default();
        for value in values {
            strings.push(value.as_ref());
        }
        strings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_split_where_asked() {
        let all = ["", "ab", "ü", "", "xyz"];
        for at in 0..=all.len() {
            let mut head: Strings = all.iter().collect();
            let tail = head.split_off(at);
            assert_eq!(head.iter().chain(tail.iter()).collect::<Vec<_>>(), all);
            assert_eq!(head.len(), at);
        }
    }
}

//! Where a run over files goes on, and by what a later run sees that the files before are still the same.

use sha2::{Digest, Sha256};

use super::inputs::Input;
use super::inputs::Kind;
use crate::digest::hex;

/// The first record that is not settled: by its input's place among all, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    pub ordinal: u32,
    pub next: u64,
}

/// A mark an input: a hash of the paths and sizes of all before it, and of its own path. It may have grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFingerprints {
    each: Vec<String>,
    all: String,
}

impl InputFingerprints {
    /// `None` where standard input or a pipe is among the inputs, which nobody reads twice.
    pub fn new(inputs: &[Input]) -> Option<InputFingerprints> {
        let mut before = Sha256::new();
        let mut marks = Vec::with_capacity(inputs.len());
        for input in inputs {
            let Kind::File { bytes, .. } = input.kind else { return None };
            before.update((input.shown.len() as u64).to_le_bytes());
            before.update(&input.shown);
            marks.push(hex(&before.clone().finalize())[..32].to_string());
            before.update(bytes.to_le_bytes());
        }
        Some(InputFingerprints { each: marks, all: hex(&before.finalize())[..32].to_string() })
    }

    /// The mark of an input; `None` of one that is not there.
    pub fn of(&self, ordinal: u32) -> Option<&str> {
        self.each.get(ordinal as usize).map(String::as_str)
    }

    /// The mark of all inputs together, which shards of one list have in common.
    pub fn all(&self) -> &str {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Compression;
    use super::*;
    use crate::source::file::Format;

    fn marks(files: &[(&str, u64)]) -> InputFingerprints {
        let input = |(path, bytes): &(&str, u64)| Input {
            path: path.into(),
            shown: path.to_string(),
            kind: Kind::File { bytes: *bytes, format: Format::Jsonl, compression: Compression::None },
        };
        InputFingerprints::new(&files.iter().map(input).collect::<Vec<_>>()).expect("they are files")
    }

    #[test]
    fn a_mark_changes_with_what_is_before_its_input() {
        let then = marks(&[("a", 1), ("b", 2), ("c", 3)]);
        let check = |files: &[(&str, u64)], same: [bool; 3]| {
            let now = marks(files);
            assert_eq!([0, 1, 2].map(|ordinal| now.of(ordinal) == then.of(ordinal)), same, "{files:?}");
        };
        check(&[("a", 1), ("b", 2), ("c", 9), ("d", 1)], [true, true, true]);
        check(&[("a", 1), ("b", 9), ("c", 3)], [true, true, false]);
        check(&[("a", 1), ("aa", 1), ("b", 2)], [true, false, false]);
        check(&[("b", 2), ("c", 3)], [false, false, false]);
    }
}

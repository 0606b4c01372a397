//! Where a run over files resumes, and fingerprints by which it checks that the inputs before that point are unchanged.

use sha2::{Digest, Sha256};

use super::inputs::{Input, InputKind};
use crate::digest::hex;

/// The position of the first record that no earlier run has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The index of its input among all inputs.
    pub ordinal: u32,
    /// Its offset in that input.
    pub next: u64,
}

/// One fingerprint per input: a hash of its path and of the paths and sizes of all inputs before it. The size of the
/// input itself is left out, since a file may grow between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFingerprints {
    each: Vec<String>,
    all: String,
}

impl InputFingerprints {
    /// The fingerprints of `inputs`; `None` if one of them is standard input or a pipe, which cannot be read again.
    pub fn new(inputs: &[Input]) -> Option<InputFingerprints> {
        let mut before = Sha256::new();
        let mut each = Vec::with_capacity(inputs.len());
        for input in inputs {
            let InputKind::File { bytes, .. } = input.kind else { return None };
            before.update((input.shown.len() as u64).to_le_bytes());
            before.update(&input.shown);
            each.push(hex(&before.clone().finalize())[..32].to_string());
            before.update(bytes.to_le_bytes());
        }
        Some(InputFingerprints { each, all: hex(&before.finalize())[..32].to_string() })
    }

    /// The fingerprint of the input with index `ordinal`; `None` if there are fewer inputs.
    pub fn of(&self, ordinal: u32) -> Option<&str> {
        self.each.get(ordinal as usize).map(String::as_str)
    }

    /// The fingerprint of all inputs together, which is the same for all shards of one list.
    pub fn all(&self) -> &str {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Compression;
    use super::*;
    use crate::source::file::Format;

    fn fingerprints(files: &[(&str, u64)]) -> InputFingerprints {
        let input = |(path, bytes): &(&str, u64)| Input {
            path: path.into(),
            shown: path.to_string(),
            kind: InputKind::File { bytes: *bytes, format: Format::Jsonl, compression: Compression::None },
        };
        InputFingerprints::new(&files.iter().map(input).collect::<Vec<_>>()).expect("they are files")
    }

    #[test]
    fn a_fingerprint_changes_with_the_inputs_before() {
        let then = fingerprints(&[("a", 1), ("b", 2), ("c", 3)]);
        let check = |files: &[(&str, u64)], same: [bool; 3]| {
            let now = fingerprints(files);
            assert_eq!([0, 1, 2].map(|ordinal| now.of(ordinal) == then.of(ordinal)), same, "{files:?}");
        };
        check(&[("a", 1), ("b", 2), ("c", 9), ("d", 1)], [true, true, true]);
        check(&[("a", 1), ("b", 9), ("c", 3)], [true, true, false]);
        check(&[("a", 1), ("aa", 1), ("b", 2)], [true, false, false]);
        check(&[("b", 2), ("c", 3)], [false, false, false]);
    }
}

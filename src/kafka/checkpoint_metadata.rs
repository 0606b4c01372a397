//! What a checkpoint of a file source keeps beside its offset. docs/compatibility.md has the format.

use std::fmt;
use std::str::FromStr;

/// The version that this build writes, and the last that it reads.
const VERSION: u32 = 1;

/// The position of the next record, and how a later run sees that the inputs before it are still the same. Written as
/// `1 ORDINAL NEXT FINGERPRINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointMetadata {
    /// The input's index among all inputs.
    pub ordinal: u32,
    /// The offset of the next record in that input.
    pub next: u64,
    /// The fingerprint of the inputs before it and of its own path.
    pub fingerprint: String,
}

impl fmt::Display for CheckpointMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} {} {} {}", self.ordinal, self.next, self.fingerprint)
    }
}

impl FromStr for CheckpointMetadata {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not_a_checkpoint = || format!("found {text:?}; expected a checkpoint (choose another name)");
        let mut parts = text.splitn(4, ' ');
        let version: u32 = parts.next().and_then(|part| part.parse().ok()).ok_or_else(not_a_checkpoint)?;
        if version > VERSION {
            return Err(format!(
                "found a checkpoint of version {version}; expected at most {VERSION} (a later embedmill wrote it: use that version or \
                 a later one)"
            ));
        }
        if version == 0 {
            return Err(not_a_checkpoint());
        }
        let ordinal = parts.next().and_then(|part| part.parse().ok()).ok_or_else(not_a_checkpoint)?;
        let next = parts.next().and_then(|part| part.parse().ok()).ok_or_else(not_a_checkpoint)?;
        let fingerprint = parts.next().filter(|part| !part.is_empty()).ok_or_else(not_a_checkpoint)?.to_owned();
        Ok(CheckpointMetadata { ordinal, next, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_read_for_ever_and_a_later_one_is_refused() {
        let written = "1 3 1700 0123456789abcdef0123456789abcdef";
        let read =
            CheckpointMetadata { ordinal: 3, next: 1_700, fingerprint: "0123456789abcdef0123456789abcdef".into() };
        assert_eq!(written.parse(), Ok(read.clone()));
        assert_eq!(read.to_string(), written);
        let error = |text: &str| text.parse::<CheckpointMetadata>().expect_err("it is refused");
        assert!(error("2 3 1700 0 more").starts_with("found a checkpoint of version 2; expected at most 1"));
        for other in ["", "hello", "1 3", "1 x 5 f", "1 3 5", "1 3 5 ", "1 4294967296 0 f", "0 3 5 f"] {
            assert!(error(other).contains("expected a checkpoint"), "{other:?}");
        }
    }
}

//! One of several runs that share the inputs of a pipeline: which inputs it reads, and how its outputs are named.
//!
//! Every run lists all inputs and reads every `count`-th, so each input is in exactly one shard. The index of an input
//! among all inputs is part of the names of output files, of positions and of checkpoints. Therefore all runs need the
//! same list; [`InputFingerprints::all`](super::InputFingerprints::all) lets a run check that.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `source.files.shard:` in the pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The index of this run, from 0; in an Indexed Job `${JOB_COMPLETION_INDEX}`.
    pub index: u32,
    /// How many runs share the inputs; in an Indexed Job its `completions`.
    pub count: u32,
}

impl Shard {
    /// Checks the numbers.
    ///
    /// # Errors
    /// The key under `source.files`, and what is wrong with its value.
    pub fn check(self) -> Result<(), (&'static str, String)> {
        if self.count == 0 {
            return Err(("shard.count", "found 0; expected at least 1".into()));
        }
        if self.index >= self.count {
            let last = self.count - 1;
            let message = format!("found {}; expected 0 to {last} (shards are counted from 0)", self.index);
            return Err(("shard.index", message));
        }
        Ok(())
    }

    /// Whether this run reads the input with index `ordinal` among all inputs.
    pub fn owns(self, ordinal: usize) -> bool {
        ordinal % self.count as usize == self.index as usize
    }

    /// `name` with the shard's number, for outputs that would have the same name in every shard.
    pub fn name(self, name: &str) -> String {
        format!("{name}-{:04}-of-{:04}", self.index, self.count)
    }

    /// As [`name`](Shard::name), for a file: the number goes before the extension.
    pub fn path(self, path: &Path) -> PathBuf {
        let stem = self.name(&path.file_stem().unwrap_or_default().to_string_lossy());
        let name = match path.extension() {
            Some(extension) => format!("{stem}.{}", extension.to_string_lossy()),
            None => stem,
        };
        path.with_file_name(name)
    }
}

impl std::fmt::Display for Shard {
    /// Counted from 1, as people count.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {} of {}", u64::from(self.index) + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No gap, no overlap, and no shard has more than one input more than another.
        #[test]
        fn every_input_is_in_exactly_one_shard(inputs in 0_usize..400, count in 1_u32..40) {
            let shards: Vec<Shard> = (0..count).map(|index| Shard { index, count }).collect();
            let mut sizes = vec![0_usize; shards.len()];
            for ordinal in 0..inputs {
                let owners: Vec<usize> = (0..shards.len()).filter(|&shard| shards[shard].owns(ordinal)).collect();
                prop_assert_eq!(owners.len(), 1, "input {} is read by {:?}", ordinal, owners);
                sizes[owners[0]] += 1;
            }
            let (min, max) = (sizes.iter().min().copied(), sizes.iter().max().copied());
            prop_assert!(max.unwrap_or(0) - min.unwrap_or(0) <= 1, "{:?}", sizes);
        }

        #[test]
        fn names_of_shards_differ(a in 0_u32..50, b in 0_u32..50, name in "[a-z./]{0,8}") {
            let (first, second) = (Shard { index: a, count: 50 }, Shard { index: b, count: 50 });
            prop_assert_eq!(a == b, first.name(&name) == second.name(&name));
            let path = Path::new("out").join("x").with_extension(name.replace(['/', '.'], ""));
            prop_assert_eq!(a == b, first.path(&path) == second.path(&path));
        }
    }

    #[test]
    fn what_is_named() {
        let shard = Shard { index: 2, count: 16 };
        let check = |path: &str, expected: &str| assert_eq!(shard.path(Path::new(path)), Path::new(expected));
        check("rejected.jsonl", "rejected-0002-of-0016.jsonl");
        check("/data/a.b/out", "/data/a.b/out-0002-of-0016");
        check("a.tar.zst", "a.tar-0002-of-0016.zst");
        assert_eq!(shard.to_string(), "shard 3 of 16");
    }

    #[test]
    fn what_is_refused() {
        let check = |index: u32, count: u32| Shard { index, count }.check().map_err(|(key, _)| key);
        assert_eq!(check(0, 1), Ok(()));
        assert_eq!(check(3, 4), Ok(()));
        assert_eq!(check(4, 4), Err("shard.index"));
        assert_eq!(check(0, 0), Err("shard.count"));
    }
}

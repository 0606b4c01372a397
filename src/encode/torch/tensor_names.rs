//! The names that a tensor may have in a checkpoint.
//!
//! The same weight has several names: bare or under the prefix of the model that had a head on top, and by this generation
//! of transformers or by the one that wrote the file. A [`TensorNames`] holds all of them at once; whoever reads a tensor
//! takes the first name that the checkpoint has.

/// Every name that one module or tensor may have, the preferred one first.
#[derive(Debug, Clone)]
pub(super) struct TensorNames(Vec<String>);

impl TensorNames {
    /// The model itself, bare or under one of these prefixes.
    pub(super) fn root(prefixes: &[&str]) -> TensorNames {
        TensorNames(std::iter::once(&"").chain(prefixes).map(|prefix| (*prefix).to_owned()).collect())
    }

    /// A module or tensor inside this module.
    pub(super) fn at(&self, path: &str) -> TensorNames {
        self.either(&[path])
    }

    /// The element `index` of this list of modules.
    pub(super) fn index(&self, index: usize) -> TensorNames {
        self.at(&index.to_string())
    }

    /// A module or tensor inside this module that was renamed over time; the newest path comes first.
    pub(super) fn either(&self, paths: &[&str]) -> TensorNames {
        let joined = |path: &&str, parent: &String| match parent.as_str() {
            "" => (*path).to_owned(),
            parent => format!("{parent}.{path}"),
        };
        TensorNames(paths.iter().flat_map(|path| self.0.iter().map(move |parent| joined(path, parent))).collect())
    }

    /// All names, the preferred one first.
    pub(super) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_joined_with_every_name() {
        let layer = TensorNames::root(&["bert"]).at("layer").index(0);
        assert_eq!(layer.as_slice(), ["layer.0", "bert.layer.0"]);
        let norm = layer.at("norm").either(&["weight", "gamma"]);
        let expected =
            ["layer.0.norm.weight", "bert.layer.0.norm.weight", "layer.0.norm.gamma", "bert.layer.0.norm.gamma"];
        assert_eq!(norm.as_slice(), expected);
    }
}

//! What a module's tensors are called in a checkpoint. The same weight has several names: bare or under the prefix of the
//! model that had a head on top, and by this generation of transformers or by the one that wrote the file. A [`Names`] is
//! all of them at once; whoever reads a tensor takes the first that is there.

/// Every name that one module may go by.
#[derive(Debug, Clone)]
pub struct Names(Vec<String>);

impl Names {
    /// The model itself, bare or under one of these prefixes.
    pub fn root(prefixes: &[&str]) -> Names {
        Names(std::iter::once(&"").chain(prefixes).map(|prefix| (*prefix).to_owned()).collect())
    }

    /// A module or tensor in this one.
    pub fn at(&self, path: &str) -> Names {
        self.either(&[path])
    }

    /// A module or tensor in this one that was renamed: the newest name first.
    pub fn either(&self, paths: &[&str]) -> Names {
        let joined = |path: &&str, parent: &String| match parent.as_str() {
            "" => (*path).to_owned(),
            parent => format!("{parent}.{path}"),
        };
        Names(paths.iter().flat_map(|path| self.0.iter().map(move |parent| joined(path, parent))).collect())
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_joined_with_every_name() {
        let layer = Names::root(&["bert"]).at("layer.0");
        assert_eq!(layer.as_slice(), ["layer.0", "bert.layer.0"]);
        let norm = layer.at("norm").either(&["weight", "gamma"]);
        let expected =
            ["layer.0.norm.weight", "bert.layer.0.norm.weight", "layer.0.norm.gamma", "bert.layer.0.norm.gamma"];
        assert_eq!(norm.as_slice(), expected);
    }
}

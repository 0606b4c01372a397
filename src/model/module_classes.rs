//! The supported classes of sentence-transformers' modules, in one table that the download, the cache and the chain share.
//! The exhaustive match in `chain_builder` says how a module of each class is read.

/// A supported class of sentence-transformers' modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModuleClass {
    Transformer,
    /// Is replaced by the modules of one of its routes.
    Router,
    WeightedLayerPooling,
    Pooling,
    Dense,
    LayerNorm,
    Normalize,
    Dropout,
}

/// Each class with its names in the two generations of files, the current one first, and whether a module of the class has
/// weights beside its configuration. (The Transformer's weights are found separately.)
const CLASSES: [(ModuleClass, &[&str], bool); 8] = [
    (ModuleClass::Transformer, &["Transformer"], false),
    (ModuleClass::Router, &["Router", "Asym"], false),
    (ModuleClass::WeightedLayerPooling, &["WeightedLayerPooling"], true),
    (ModuleClass::Pooling, &["Pooling"], false),
    (ModuleClass::Dense, &["Dense"], true),
    (ModuleClass::LayerNorm, &["LayerNorm"], true),
    (ModuleClass::Normalize, &["Normalize"], false),
    (ModuleClass::Dropout, &["Dropout"], false),
];

impl ModuleClass {
    /// The class of a module by its `type` in modules.json, such as `sentence_transformers.models.Pooling`; `None` if it is not
    /// a supported class of sentence-transformers.
    pub(crate) fn of(module_type: &str) -> Option<ModuleClass> {
        let name = module_type.strip_prefix("sentence_transformers.")?.rsplit('.').next()?;
        CLASSES.iter().find(|(_, names, _)| names.contains(&name)).map(|(class, ..)| *class)
    }

    /// Whether a module of this class has weights of its own.
    pub(crate) fn has_weights(self) -> bool {
        CLASSES.iter().any(|(class, _, has_weights)| *class == self && *has_weights)
    }

    /// The current names of all classes, for errors.
    pub(crate) fn names() -> String {
        CLASSES.map(|(_, names, _)| names[0]).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_names_are_known() {
        for (class, names, has_weights) in CLASSES {
            assert_eq!(class.has_weights(), has_weights);
            for name in names {
                assert_eq!(ModuleClass::of(&format!("sentence_transformers.models.{name}")), Some(class));
                let newer =
                    format!("sentence_transformers.sentence_transformer.modules.{}.{name}", name.to_lowercase());
                assert_eq!(ModuleClass::of(&newer), Some(class));
            }
        }
        for foreign in ["custom_st.Pooling", "sentence_transformers.models.CNN", ""] {
            assert_eq!(ModuleClass::of(foreign), None, "{foreign}");
        }
    }
}

//! The supported families of models: a table from `model_type` to what checks and builds them.
//!
//! A family is a file here: it reads and checks its config.json, of which [`common`] reads what all families have, and puts
//! a model together of the parts in [`layers`](super::layers) and [`attention`](super::attention).

mod albert;
mod bert;
mod common;
mod deberta;
mod deberta_config;
mod decoder;
mod distilbert;
mod gemma;
mod modernbert;
mod mpnet;
mod post_norm;
mod rotary_bert;
mod t5;

use super::config_keys::unsupported;
use super::transformer::Transformer;
use super::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// A `model_type`, and how its models are checked and built. Both functions are told the type, since one architecture may
/// serve several.
struct Family {
    model_type: &'static str,
    /// Refuses a config.json that the family cannot compute; reads no weights.
    check: fn(&str, &ConfigFile) -> Result<Sizes, LoadError>,
    build: Build,
}

/// Builds a model from its type, its configuration and its weights.
type Build = fn(&str, &ConfigFile, &mut Weights) -> Result<Box<dyn Transformer>, LoadError>;

/// A line of [`FAMILIES`].
macro_rules! family {
    ($model_type:literal, $architecture:ident) => {
        Family { model_type: $model_type, check: $architecture::check, build: $architecture::build }
    };
}

/// Every supported `model_type`. A new one is a line here, and a file if its architecture is new.
const FAMILIES: [Family; 23] = [
    family!("bert", bert),
    family!("roberta", bert),
    family!("xlm-roberta", bert),
    family!("camembert", bert),
    family!("electra", bert),
    family!("mpnet", mpnet),
    family!("distilbert", distilbert),
    family!("albert", albert),
    family!("deberta-v2", deberta),
    family!("modernbert", modernbert),
    family!("nomic_bert", rotary_bert),
    family!("gte", rotary_bert),
    family!("new", rotary_bert),
    family!("jina_embeddings_v3", rotary_bert),
    family!("eurobert", decoder),
    family!("qwen2", decoder),
    family!("qwen3", decoder),
    family!("mistral", decoder),
    family!("llama", decoder),
    family!("gemma3_text", gemma),
    family!("t5", t5),
    family!("mt5", t5),
    family!("umt5", t5),
];

/// Families that may have `is_causal: true`: those that read the key, which can be causal or bidirectional, and those whose
/// attention is bidirectional in transformers whatever the key says. The others are bidirectional and refuse it.
const ACCEPT_IS_CAUSAL: [&str; 8] =
    ["deberta-v2", "eurobert", "gemma3_text", "llama", "mistral", "mpnet", "qwen2", "qwen3"];

/// The `model_type` of every supported family.
pub fn families() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.model_type).collect()
}

fn family(model_type: &str, file: &ConfigFile) -> Result<&'static Family, LoadError> {
    FAMILIES.iter().find(|family| family.model_type == model_type).ok_or_else(|| {
        let known = families().join(", ");
        unsupported(file, "model_type", &format!("{model_type:?}"), &format!("one of {known}"))
    })
}

/// The sizes of a model, from its config.json alone.
///
/// # Errors
/// If no family can compute a model with this configuration.
pub(crate) fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    if !ACCEPT_IS_CAUSAL.contains(&model_type) && file.flag("is_causal")? {
        return Err(unsupported(file, "is_causal", "true", "false for this family"));
    }
    (family(model_type, file)?.check)(model_type, file)
}

/// Builds a model of a family, and reads its weights.
///
/// # Errors
/// Those of [`check`], and weights that are not those of the configuration.
pub(super) fn build(
    model_type: &str,
    file: &ConfigFile,
    weights: &mut Weights,
) -> Result<Box<dyn Transformer>, LoadError> {
    (family(model_type, file)?.build)(model_type, file, weights)
}

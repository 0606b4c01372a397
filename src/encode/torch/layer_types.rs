//! The kinds of layers that a config.json may distinguish: `layer_types`.

use serde_json::Value;

use crate::model::LoadError;
use crate::model::config_file::{ConfigFile, shorten};

/// What a layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerType {
    /// All tokens, or all tokens before.
    Full,
    /// The tokens in a sliding window.
    Sliding,
}

impl LayerType {
    /// In the order of [`index`](LayerType::index).
    pub(super) const ALL: [LayerType; 2] = [LayerType::Full, LayerType::Sliding];

    /// The name in config.json.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            LayerType::Full => "full_attention",
            LayerType::Sliding => "sliding_attention",
        }
    }

    /// Its place in lists that have one entry for each type.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// `Sliding` where `is_sliding` holds, else `Full`.
    pub(super) fn sliding_if(is_sliding: bool) -> LayerType {
        if is_sliding { LayerType::Sliding } else { LayerType::Full }
    }
}

/// The type of each of `layers` layers: `layer_types`, or the family's own rule where the key is absent.
pub(super) fn layer_types(
    file: &ConfigFile,
    layers: usize,
    default: impl Fn(usize) -> LayerType,
) -> Result<Vec<LayerType>, LoadError> {
    let Some(value) = file.get("layer_types") else { return Ok((0..layers).map(default).collect()) };
    let named = |name: &Value| LayerType::ALL.into_iter().find(|layer_type| name.as_str() == Some(layer_type.as_str()));
    let types = value.as_array().and_then(|names| names.iter().map(named).collect::<Option<Vec<_>>>());
    types.filter(|types| types.len() == layers).ok_or_else(|| {
        let known = LayerType::ALL.map(LayerType::as_str).join(" or ");
        let found = shorten(value);
        file.error(format!("\"layer_types\": found {found}; expected a list of {layers} layers, each {known}"))
    })
}

//! What the config.json of every family says, under whatever keys: read and checked in one place.
//!
//! A family names its keys as [`CommonKeys`], reads a [`CommonConfig`], and adds what is its own.

use crate::encode::torch::attention::heads::Heads;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layers::{Activation, LayerShape, Norm, PositionEmbeddings, PositionOffset};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// The names that a key may have, the newest first. The first that the file has counts.
pub(super) type KeyNames = &'static [&'static str];

/// Under which keys a family has the values of [`CommonConfig`].
#[derive(Debug, Clone, Copy)]
pub(super) struct CommonKeys {
    pub hidden_size: KeyNames,
    pub layers: KeyNames,
    pub heads: KeyNames,
    pub head_dim: HeadDim,
    pub intermediate_size: KeyNames,
    /// `None` for a family without a maximum length.
    pub max_positions: Option<KeyNames>,
    pub activation: ActivationKey,
    pub norm_eps: NormEps,
}

/// How wide a head is.
#[derive(Debug, Clone, Copy)]
pub(super) enum HeadDim {
    /// The hidden size, divided evenly among the heads.
    Split,
    /// The value of this key, or as `Split` where it is absent.
    KeyOrSplit(&'static str),
    /// The value of the key, or the default where it is absent.
    KeyOr(&'static str, i64),
}

/// The MLP's activation function.
#[derive(Debug, Clone, Copy)]
pub(super) enum ActivationKey {
    /// The value of the key, or the default where it is absent.
    Key { key: &'static str, default: &'static str },
    /// The family reads it by itself.
    Given(Activation),
}

/// The constant that keeps a norm from dividing by zero.
#[derive(Debug, Clone, Copy)]
pub(super) enum NormEps {
    /// The value of the key, or the default where it is absent.
    Keys { keys: KeyNames, default: f64 },
    /// The family has no key for it.
    Fixed(f64),
}

impl CommonKeys {
    /// BERT's keys and defaults, most of which most families have.
    pub(super) const BERT: CommonKeys = CommonKeys {
        hidden_size: &["hidden_size"],
        layers: &["num_hidden_layers"],
        heads: &["num_attention_heads"],
        head_dim: HeadDim::Split,
        intermediate_size: &["intermediate_size"],
        max_positions: Some(&["max_position_embeddings"]),
        activation: ActivationKey::Key { key: "hidden_act", default: "gelu" },
        norm_eps: NormEps::Keys { keys: &["layer_norm_eps"], default: 1e-12 },
    };
}

/// The values that every family has.
#[derive(Debug, Clone)]
pub(super) struct CommonConfig {
    /// Width of a token's vector between the layers.
    pub hidden: i64,
    pub layers: usize,
    pub heads: Heads,
    /// Width between the MLP's layers.
    pub intermediate: i64,
    pub vocab_size: i64,
    /// Rows of the table of positions, or the maximum length where the family has no table; `None` without a maximum.
    pub max_positions: Option<i64>,
    pub activation: Activation,
    pub norm_eps: f64,
}

impl CommonConfig {
    /// Reads and checks the values under the family's keys. All heads are query heads with keys and values of their own; a
    /// family with fewer key-value heads reads them with [`with_kv_heads`](CommonConfig::with_kv_heads).
    pub(super) fn read(file: &ConfigFile, names: &CommonKeys) -> Result<CommonConfig, LoadError> {
        let hidden_key = present(file, names.hidden_size);
        let hidden = keys::width(file, hidden_key)?;
        let heads_key = present(file, names.heads);
        let heads = keys::heads(file, heads_key)?;
        let split = || match hidden % heads {
            0 => Ok(hidden / heads),
            _ => Err(file.error(format!(
                "{hidden_key:?}: found {hidden}; expected a multiple of {heads_key:?}, which is {heads}"
            ))),
        };
        let head_dim = match names.head_dim {
            HeadDim::Split => split()?,
            HeadDim::KeyOrSplit(key) if file.get(key).is_none() => split()?,
            HeadDim::KeyOrSplit(key) => keys::width(file, key)?,
            HeadDim::KeyOr(key, default) => keys::width_or(file, key, default)?,
        };
        let positions = |names| keys::rows(file, present(file, names));
        Ok(CommonConfig {
            hidden,
            layers: keys::layers(file, present(file, names.layers))?,
            heads: Heads::equal(heads, head_dim),
            intermediate: keys::width(file, present(file, names.intermediate_size))?,
            vocab_size: keys::rows(file, "vocab_size")?,
            max_positions: names.max_positions.map(positions).transpose()?,
            activation: match names.activation {
                ActivationKey::Key { key, default } => keys::activation(file, key, default)?,
                ActivationKey::Given(activation) => activation,
            },
            norm_eps: match names.norm_eps {
                NormEps::Keys { keys: names, default } => keys::epsilon(file, present(file, names), default)?,
                NormEps::Fixed(eps) => eps,
            },
        })
    }

    /// The same with this many key-value heads, which the query heads must be able to share evenly.
    pub(super) fn with_kv_heads(mut self, file: &ConfigFile, kv_heads: i64) -> Result<CommonConfig, LoadError> {
        let query_heads = self.heads.query_heads;
        if query_heads % kv_heads != 0 {
            return Err(file.error(format!(
                "\"num_attention_heads\": found {query_heads}; expected a multiple of \"num_key_value_heads\", which is \
                 {kv_heads}"
            )));
        }
        self.heads.kv_heads = kv_heads;
        Ok(self)
    }

    /// The sizes that the rest of the program knows of a model.
    pub(super) fn sizes(&self) -> Sizes {
        // The values were read as unsigned numbers.
        let size = |number: i64| number as usize;
        Sizes {
            hidden: size(self.hidden),
            layers: self.layers,
            vocab_size: size(self.vocab_size),
            positions: self.max_positions.map(size),
        }
    }

    /// The sizes of a layer's buffers.
    pub(super) fn layer_shape(&self, gated: bool) -> LayerShape {
        LayerShape { heads: self.heads, intermediate: self.intermediate, gated }
    }

    /// A LayerNorm with bias over token vectors.
    pub(super) fn layer_norm(&self, names: &TensorNames, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::layer_norm(names, self.hidden, self.norm_eps, true, weights)
    }

    /// An RMSNorm over token vectors.
    pub(super) fn rms_norm(&self, names: &TensorNames, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::rms_norm(names, self.hidden, self.norm_eps, weights)
    }

    /// The table of positions, `[max_positions, width]`; `None` for a family without a maximum length.
    pub(super) fn position_embeddings(
        &self,
        names: &TensorNames,
        width: i64,
        offset: PositionOffset,
        weights: &mut Weights,
    ) -> Result<Option<PositionEmbeddings>, LoadError> {
        let Some(rows) = self.max_positions else { return Ok(None) };
        PositionEmbeddings::load(names, rows, width, offset, weights).map(Some)
    }
}

/// The first of a key's names that the file has, else the newest, which an error then names.
fn present(file: &ConfigFile, names: KeyNames) -> &'static str {
    names.iter().find(|name| file.get(name).is_some()).unwrap_or(&names[0])
}

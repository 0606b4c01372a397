//! BERT's layer, which several families have under names of their own: attention and a plain MLP, both with biases, each with
//! a residual and a LayerNorm after it.

use super::common::CommonConfig;
use crate::encode::torch::layers::{HalfNorms, Linear, Mlp, TransformerLayer};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::LoadError;

/// What a family calls the modules of a layer, relative to the layer.
pub(super) struct PostNormNames {
    /// Query, key and value.
    pub qkv: [&'static str; 3],
    pub out_proj: &'static str,
    pub attention_norm: &'static str,
    pub up_proj: &'static str,
    pub down_proj: &'static str,
    pub mlp_norm: &'static str,
}

/// Reads the weights of the layer `layer`.
pub(super) fn post_norm_layer(
    config: &CommonConfig,
    names: &PostNormNames,
    layer: &TensorNames,
    weights: &mut Weights,
) -> Result<TransformerLayer, LoadError> {
    let CommonConfig { hidden, heads, intermediate, activation, .. } = *config;
    let width = heads.attention_width();
    let qkv = names.qkv.map(|name| (layer.at(name), width));
    let (up, down) = (layer.at(names.up_proj), layer.at(names.down_proj));
    Ok(TransformerLayer {
        qkv_proj: Linear::load_fused(&qkv, hidden, true, weights)?,
        head_norms: None,
        out_proj: Linear::load(&layer.at(names.out_proj), width, hidden, true, weights)?,
        attention_norms: HalfNorms::post(config.layer_norm(&layer.at(names.attention_norm), weights)?),
        mlp: Mlp::load_plain(&up, &down, hidden, intermediate, activation, true, weights)?,
        mlp_norms: HalfNorms::post(config.layer_norm(&layer.at(names.mlp_norm), weights)?),
    })
}

//! The encoder of T5 (Raffel et al. 2020), mT5 (Xue et al. 2021) and umT5 (Chung et al. 2023) over packed sequences: RMSNorm
//! before each half of a layer, scores that are not scaled, and a relative attention bias. transformers' `T5EncoderModel`,
//! `MT5EncoderModel`, `UMT5EncoderModel`. A checkpoint with a decoder loads; the decoder is not read.

use super::common::{ActivationKey, CommonConfig, CommonKeys, HeadDim, NormEps};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::attention::per_layer::PerLayer;
use crate::encode::torch::attention::relative_bias::RelativeBias;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{Activation, Embeddings, HalfNorms, Linear, Mlp, TransformerLayer};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// A relative bias has no maximum length. The activation is read from `feed_forward_proj`.
fn common_keys(activation: Activation) -> CommonKeys {
    CommonKeys {
        hidden_size: &["d_model"],
        layers: &["num_layers"],
        heads: &["num_heads"],
        head_dim: HeadDim::KeyOr("d_kv", 64),
        intermediate_size: &["d_ff"],
        max_positions: None,
        activation: ActivationKey::Given(activation),
        norm_eps: NormEps::Keys { keys: &["layer_norm_epsilon"], default: 1e-6 },
    }
}

/// The keys of config.json that change the vectors.
struct T5Config {
    common: CommonConfig,
    gated: bool,
    buckets: i64,
    /// From this distance on all relative positions share the last bucket.
    max_distance: i64,
}

impl T5Config {
    fn read(model_type: &str, file: &ConfigFile) -> Result<T5Config, LoadError> {
        keys::refuse_flags(file, &["is_decoder"])?;
        keys::refuse_values(file, &[])?;
        let (gated, activation) = feed_forward(model_type, file)?;
        let buckets = file.count("relative_attention_num_buckets", 4..=keys::ROWS_MAX)?.unwrap_or(32) as i64;
        // Half of the buckets are for each direction, half of those for one distance each.
        let max_exact = buckets / 4;
        let min = max_exact as usize + 1;
        let max_distance = file.count("relative_attention_max_distance", min..=keys::ROWS_MAX)?.unwrap_or(128);
        let common = CommonConfig::read(file, &common_keys(activation))?;
        Ok(T5Config { common, gated, buckets, max_distance: max_distance as i64 })
    }
}

/// `feed_forward_proj`: an activation, or `gated-` and one. Returns whether there is a gate, and the activation.
fn feed_forward(model_type: &str, file: &ConfigFile) -> Result<(bool, Activation), LoadError> {
    let key = "feed_forward_proj";
    let default = if model_type == "t5" { "relu" } else { "gated-gelu" };
    let value = file.text(key)?.unwrap_or(default);
    let (gated, name) = match value.strip_prefix("gated-") {
        // T5 1.1's name for this GELU, from before transformers had a name for it.
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, value),
    };
    let activation = Activation::named(name).ok_or_else(|| keys::unsupported_activation(file, key, value))?;
    // Newer files repeat the value under other keys. If these differ, it is not known which one is meant.
    let contradicts = |other: &str, found: String| {
        file.error(format!("{other:?}: found {found}; expected a value that agrees with {key:?}, which is {value:?}"))
    };
    if let Some(name) = file.text("dense_act_fn")?.filter(|name| Activation::named(name) != Some(activation)) {
        return Err(contradicts("dense_act_fn", format!("{name:?}")));
    }
    if keys::flag_or(file, "is_gated_act", gated)? != gated {
        return Err(contradicts("is_gated_act", (!gated).to_string()));
    }
    Ok((gated, activation))
}

pub(super) fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(T5Config::read(model_type, file)?.common.sizes())
}

pub(super) fn build(
    model_type: &str,
    file: &ConfigFile,
    weights: &mut Weights,
) -> Result<Box<dyn Transformer>, LoadError> {
    let config = T5Config::read(model_type, file)?;
    let common = &config.common;
    let names = TensorNames::root(&["transformer"]);
    let tokens = names.either(&["shared.weight", "encoder.embed_tokens.weight"]);
    let tokens = weights.take(&tokens, &[common.vocab_size, common.hidden])?;
    let encoder = names.at("encoder");
    let layer_names = |index: usize| encoder.at("block").index(index).at("layer");
    let layers = (0..common.layers).map(|index| layer(&config, &layer_names(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let norm = common.rms_norm(&encoder.at("final_layer_norm"), weights)?;
    // All layers share the first layer's bias, except for umT5, where each has its own.
    let biases = if model_type == "umt5" { common.layers } else { 1 };
    let mut kinds = Vec::with_capacity(biases);
    for index in 0..biases {
        let relative_bias = relative_bias(&config, &layer_names(index), weights)?;
        kinds.push(DotProduct::plain(common.heads, &tokens).with_scale(1.0).with_relative_bias(relative_bias));
    }
    weights.ensure_all_used("encoder.block.")?;
    let kind_of_layer = (0..common.layers).map(|layer| layer.min(biases - 1)).collect();
    let attention = Box::new(PerLayer { kinds, kind_of_layer });
    let embeddings = Embeddings::of_tokens(tokens);
    let shape = common.layer_shape(config.gated);
    Ok(Box::new(LayerStack::new(embeddings, layers, Some(norm), attention, shape, weights)?))
}

fn relative_bias(config: &T5Config, names: &TensorNames, weights: &mut Weights) -> Result<RelativeBias, LoadError> {
    let table = names.at("0.SelfAttention.relative_attention_bias.weight");
    let table = weights.take(&table, &[config.buckets, config.common.heads.query_heads])?;
    Ok(RelativeBias { table, buckets: config.buckets, max_distance: config.max_distance })
}

fn layer(config: &T5Config, names: &TensorNames, weights: &mut Weights) -> Result<TransformerLayer, LoadError> {
    let (hidden, width) = (config.common.hidden, config.common.heads.attention_width());
    let attention = names.at("0.SelfAttention");
    let qkv = ["q", "k", "v"].map(|name| (attention.at(name), width));
    Ok(TransformerLayer {
        qkv_proj: Linear::load_fused(&qkv, hidden, false, weights)?,
        head_norms: None,
        out_proj: Linear::load(&attention.at("o"), width, hidden, false, weights)?,
        attention_norms: HalfNorms::pre(config.common.rms_norm(&names.at("0.layer_norm"), weights)?),
        mlp: mlp(config, &names.at("1.DenseReluDense"), weights)?,
        mlp_norms: HalfNorms::pre(config.common.rms_norm(&names.at("1.layer_norm"), weights)?),
    })
}

fn mlp(config: &T5Config, names: &TensorNames, weights: &mut Weights) -> Result<Mlp, LoadError> {
    let CommonConfig { hidden, intermediate, activation, .. } = config.common;
    if !config.gated {
        return Mlp::load_plain(&names.at("wi"), &names.at("wo"), hidden, intermediate, activation, false, weights);
    }
    Ok(Mlp {
        gate_proj: Some(Linear::load(&names.at("wi_0"), hidden, intermediate, false, weights)?),
        up_proj: Linear::load(&names.at("wi_1"), hidden, intermediate, false, weights)?,
        activation,
        down_proj: Linear::load(&names.at("wo"), intermediate, hidden, false, weights)?,
    })
}

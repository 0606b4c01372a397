//! Gemma 3 (Gemma Team 2025) and EmbeddingGemma over packed sequences: scaled embeddings, RMSNorm before and after each half
//! of a layer, norms of queries and keys, a gated MLP, and layers with a sliding window between layers with full attention,
//! each type with rotary position embeddings of its own. transformers' `Gemma3TextModel`.

use super::common::{ActivationKey, CommonConfig, CommonKeys, HeadDim, NormEps};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::attention::mask::AttentionMask;
use crate::encode::torch::attention::per_layer::PerLayer;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layer_types::{LayerType, layer_types};
use crate::encode::torch::layers::{Embeddings, HalfNorms, HeadNorms, Linear, Mlp, Norm, TransformerLayer};
use crate::encode::torch::rotary::Rotary;
use crate::encode::torch::rotary::config::ThetaKey;
use crate::encode::torch::rotary::frequencies::RopeFrequencies;
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

const KEYS: CommonKeys = CommonKeys {
    head_dim: HeadDim::KeyOr("head_dim", 256),
    activation: ActivationKey::Key { key: "hidden_activation", default: "gelu_pytorch_tanh" },
    norm_eps: NormEps::Keys { keys: &["rms_norm_eps"], default: 1e-6 },
    ..CommonKeys::BERT
};
/// For each type of layer.
const THETAS: [ThetaKey; 2] =
    [ThetaKey { key: "rope_theta", default: 1_000_000.0 }, ThetaKey { key: "rope_local_base_freq", default: 10_000.0 }];

/// The keys of config.json that change the vectors.
struct GemmaConfig {
    common: CommonConfig,
    attention_bias: bool,
    /// What scores are multiplied by.
    scale: f64,
    layer_types: Vec<LayerType>,
    /// For each type of layer.
    frequencies: [RopeFrequencies; 2],
    /// For each type of layer.
    masks: [AttentionMask; 2],
}

impl GemmaConfig {
    fn read(file: &ConfigFile) -> Result<GemmaConfig, LoadError> {
        keys::refuse_flags(file, &["is_encoder_decoder", "add_cross_attention"])?;
        keys::refuse_values(file, &["attn_logit_softcapping"])?;
        if !keys::flag_or(file, "is_causal", true)? {
            return Err(keys::unsupported(file, "is_causal", "false", "true for Gemma"));
        }
        let common = CommonConfig::read(file, &KEYS)?;
        let common = common.with_kv_heads(file, keys::heads(file, "num_key_value_heads")?)?;
        let head_dim = common.heads.head_dim;
        let pattern = match file.get("sliding_window_pattern") {
            Some(_) => "sliding_window_pattern",
            None => "_sliding_window_pattern",
        };
        let pattern = file.count(pattern, 1..=keys::LAYERS_MAX)?.unwrap_or(6);
        let frequencies = |layer_type: LayerType| {
            let is_scaled = layer_type == LayerType::Full;
            RopeFrequencies::read_for_layer_type(file, layer_type, head_dim, THETAS[layer_type.index()], is_scaled)
        };
        let scalar = file.number("query_pre_attn_scalar")?.unwrap_or(256.0);
        if !(scalar > 0.0 && scalar.is_finite()) {
            let message = format!("\"query_pre_attn_scalar\": found {scalar}; expected a positive number");
            return Err(file.error(message));
        }
        let default = |layer: usize| LayerType::sliding_if(!(layer + 1).is_multiple_of(pattern));
        Ok(GemmaConfig {
            attention_bias: file.flag("attention_bias")?,
            scale: 1.0 / scalar.sqrt(),
            layer_types: layer_types(file, common.layers, default)?,
            frequencies: [frequencies(LayerType::Full)?, frequencies(LayerType::Sliding)?],
            masks: masks(file)?,
            common,
        })
    }

    /// An RMSNorm; checkpoints hold the weights' difference from 1.
    fn norm(&self, names: &TensorNames, width: i64, weights: &mut Weights) -> Result<Norm, LoadError> {
        let norm = Norm::rms_norm(names, width, self.common.norm_eps, weights)?;
        norm.with_weights_plus_one().map_err(|error| weights.load_error(&error))
    }
}

/// What layers of each type see.
fn masks(file: &ConfigFile) -> Result<[AttentionMask; 2], LoadError> {
    let window = file.count("sliding_window", 1..=keys::ROWS_MAX)?.unwrap_or(4_096) as i64;
    Ok(if file.flag("use_bidirectional_attention")? {
        // The window's width is that of both sides together.
        [AttentionMask::FULL, AttentionMask { causal: false, max_distance: Some(window / 2) }]
    } else {
        // The window's width includes the token itself.
        let full = AttentionMask { causal: true, max_distance: None };
        [full, AttentionMask { causal: true, max_distance: Some(window - 1) }]
    })
}

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(GemmaConfig::read(file)?.common.sizes())
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = GemmaConfig::read(file)?;
    let common = &config.common;
    let names = TensorNames::root(&["model"]);
    let mut tokens = weights.take(&names.at("embed_tokens.weight"), &[common.vocab_size, common.hidden])?;
    let scaled = tokens.f_mul_scalar_((common.hidden as f64).sqrt()).map(drop);
    scaled.map_err(|error| weights.load_error(&error))?;
    let layer_names = names.at("layers");
    let layers = (0..common.layers).map(|index| layer(&config, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("layers.")?;
    let norm = config.norm(&names.at("norm"), common.hidden, weights)?;
    let kind = |layer_type: LayerType| -> Result<DotProduct, LoadError> {
        let index = layer_type.index();
        let rotary = Rotary::new(&config.frequencies[index], tokens.device());
        let rotary = rotary.map_err(|error| weights.load_error(&error))?;
        let scaled = DotProduct::plain(common.heads, &tokens).with_scale(config.scale);
        Ok(scaled.with_rotary(rotary).with_mask(config.masks[index]))
    };
    let kinds = [kind(LayerType::Full)?, kind(LayerType::Sliding)?];
    let attention = Box::new(PerLayer::by_type(kinds, &config.layer_types));
    let embeddings = Embeddings::of_tokens(tokens);
    Ok(Box::new(LayerStack::new(embeddings, layers, Some(norm), attention, common.layer_shape(true), weights)?))
}

fn layer(config: &GemmaConfig, names: &TensorNames, weights: &mut Weights) -> Result<TransformerLayer, LoadError> {
    let CommonConfig { hidden, heads, intermediate, activation, .. } = config.common;
    let attention = names.at("self_attn");
    let (width, kv_width) = (heads.attention_width(), heads.kv_width());
    let qkv = [("q_proj", width), ("k_proj", kv_width), ("v_proj", kv_width)];
    let qkv = qkv.map(|(name, width)| (attention.at(name), width));
    let bias = config.attention_bias;
    let norms = |pre: &str, output: &str, weights: &mut Weights| -> Result<HalfNorms, LoadError> {
        let pre = Some(config.norm(&names.at(pre), hidden, weights)?);
        let output = Some(config.norm(&names.at(output), hidden, weights)?);
        Ok(HalfNorms { pre, output, post: None })
    };
    Ok(TransformerLayer {
        qkv_proj: Linear::load_fused(&qkv, hidden, bias, weights)?,
        head_norms: Some(HeadNorms {
            heads,
            query: config.norm(&attention.at("q_norm"), heads.head_dim, weights)?,
            key: config.norm(&attention.at("k_norm"), heads.head_dim, weights)?,
        }),
        out_proj: Linear::load(&attention.at("o_proj"), width, hidden, bias, weights)?,
        attention_norms: norms("input_layernorm", "post_attention_layernorm", weights)?,
        mlp: Mlp::load_gated(&names.at("mlp"), hidden, intermediate, activation, false, weights)?,
        mlp_norms: norms("pre_feedforward_layernorm", "post_feedforward_layernorm", weights)?,
    })
}

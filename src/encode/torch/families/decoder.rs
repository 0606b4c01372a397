//! Llama's architecture (Touvron et al. 2023) over packed sequences, and the models that share it: Mistral, Qwen2, Qwen3 with
//! its norms of queries and keys, and EuroBERT, where every token sees every token. transformers' `LlamaModel`,
//! `MistralModel`, `Qwen2Model`, `Qwen3Model`, `EuroBertModel`.
//!
//! RMSNorm before each half of a layer, rotary position embeddings, grouped-query attention, a gated MLP. A token sees
//! itself and the tokens before it, unless `is_causal` is false.

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
use crate::model::config_file::{ConfigFile, shorten};
use crate::model::{LoadError, Sizes};

const THETA: ThetaKey = ThetaKey { key: "rope_theta", default: 10_000.0 };
/// Used where `sliding_window` is absent; null switches the window off.
const SLIDING_WINDOW: i64 = 4_096;
/// Used where Qwen's `max_window_layers` is absent.
const MAX_WINDOW_LAYERS: usize = 28;

/// The keys of config.json that change the vectors.
struct DecoderConfig {
    common: CommonConfig,
    qkv_bias: bool,
    out_bias: bool,
    mlp_bias: bool,
    head_norms: bool,
    causal: bool,
    layer_types: Vec<LayerType>,
    /// Width of the sliding window.
    window: Option<i64>,
    frequencies: RopeFrequencies,
}

/// The keys and defaults of a model type.
fn common_keys(model_type: &str) -> CommonKeys {
    CommonKeys {
        head_dim: match model_type {
            "qwen3" => HeadDim::KeyOr("head_dim", 128),
            _ => HeadDim::KeyOrSplit("head_dim"),
        },
        activation: ActivationKey::Key { key: "hidden_act", default: "silu" },
        norm_eps: NormEps::Keys {
            keys: &["rms_norm_eps"],
            default: if model_type == "eurobert" { 1e-5 } else { 1e-6 },
        },
        ..CommonKeys::BERT
    }
}

impl DecoderConfig {
    fn read(model_type: &str, file: &ConfigFile) -> Result<DecoderConfig, LoadError> {
        keys::refuse_flags(file, &["is_encoder_decoder", "add_cross_attention", "use_bidirectional_attention"])?;
        keys::refuse_values(file, &[])?;
        if let Some(parts) = file.count("pretraining_tp", 1..=keys::HEADS_MAX)?.filter(|parts| *parts != 1) {
            return Err(keys::unsupported(file, "pretraining_tp", &parts.to_string(), "1"));
        }
        let common = CommonConfig::read(file, &common_keys(model_type))?;
        let kv_heads = kv_heads(model_type, file, common.heads.query_heads)?;
        let common = common.with_kv_heads(file, kv_heads)?;
        let (window, layer_types) = sliding_window(model_type, file, common.layers)?;
        let (qkv_bias, out_bias) = match model_type {
            "qwen2" => (true, false),
            "mistral" => (false, false),
            _ => (file.flag("attention_bias")?, file.flag("attention_bias")?),
        };
        Ok(DecoderConfig {
            qkv_bias,
            out_bias,
            mlp_bias: matches!(model_type, "llama" | "eurobert") && file.flag("mlp_bias")?,
            head_norms: model_type == "qwen3",
            causal: keys::flag_or(file, "is_causal", model_type != "eurobert")?,
            layer_types,
            window,
            frequencies: RopeFrequencies::read(file, common.heads.head_dim, THETA)?,
            common,
        })
    }

    /// What a layer with full attention sees.
    fn full_mask(&self) -> AttentionMask {
        AttentionMask { causal: self.causal, max_distance: None }
    }

    /// What a layer with a sliding window sees. The width of a causal window includes the token itself, that of a
    /// bidirectional one does not.
    fn sliding_mask(&self) -> AttentionMask {
        let itself = i64::from(self.causal);
        AttentionMask { causal: self.causal, max_distance: self.window.map(|window| window - itself) }
    }
}

/// `num_key_value_heads`. Where the key is absent, Llama and EuroBERT have as many as query heads. The other families have a
/// number that depends on the version of transformers, so they need the key; for them null means as many as query heads.
fn kv_heads(model_type: &str, file: &ConfigFile, query_heads: i64) -> Result<i64, LoadError> {
    let are_equal = matches!(model_type, "llama" | "eurobert") || file.json.contains_key("num_key_value_heads");
    match file.count("num_key_value_heads", 1..=keys::HEADS_MAX)? {
        Some(kv_heads) => Ok(kv_heads as i64),
        None if are_equal => Ok(query_heads),
        None => keys::heads(file, "num_key_value_heads"),
    }
}

/// The width of the sliding window, and which layers have one.
fn sliding_window(
    model_type: &str,
    file: &ConfigFile,
    layers: usize,
) -> Result<(Option<i64>, Vec<LayerType>), LoadError> {
    let width = || -> Result<Option<i64>, LoadError> {
        match file.json.get("sliding_window") {
            None => Ok(Some(SLIDING_WINDOW)),
            Some(_) => Ok(file.count("sliding_window", 1..=keys::ROWS_MAX)?.map(|width| width as i64)),
        }
    };
    match model_type {
        "mistral" => {
            if let Some(value) = file.get("layer_types") {
                return Err(keys::unsupported(file, "layer_types", &shorten(value), "no such key for Mistral"));
            }
            let window = width()?;
            Ok((window, vec![LayerType::sliding_if(window.is_some()); layers]))
        }
        "qwen2" | "qwen3" => {
            let window = if file.flag("use_sliding_window")? { width()? } else { None };
            let first = file.count("max_window_layers", 0..=keys::LAYERS_MAX)?.unwrap_or(MAX_WINDOW_LAYERS);
            let default = |layer| LayerType::sliding_if(window.is_some() && layer >= first);
            let types = layer_types(file, layers, default)?;
            if window.is_none() && types.contains(&LayerType::Sliding) {
                let message = "\"layer_types\": found sliding_attention without a window; expected \"use_sliding_window\" \
                               true and \"sliding_window\"";
                return Err(file.error(message));
            }
            Ok((window, types))
        }
        _ => Ok((None, vec![LayerType::Full; layers])),
    }
}

pub(super) fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(DecoderConfig::read(model_type, file)?.common.sizes())
}

pub(super) fn build(
    model_type: &str,
    file: &ConfigFile,
    weights: &mut Weights,
) -> Result<Box<dyn Transformer>, LoadError> {
    let config = DecoderConfig::read(model_type, file)?;
    let common = &config.common;
    let names = TensorNames::root(&["model"]);
    let tokens = weights.take(&names.at("embed_tokens.weight"), &[common.vocab_size, common.hidden])?;
    let layer_names = names.at("layers");
    let layers = (0..common.layers).map(|index| layer(&config, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("layers.")?;
    let norm = common.rms_norm(&names.at("norm"), weights)?;
    let kind = |mask| -> Result<DotProduct, LoadError> {
        let rotary = Rotary::new(&config.frequencies, tokens.device()).map_err(|error| weights.load_error(&error))?;
        Ok(DotProduct::plain(common.heads, &tokens).with_rotary(rotary).with_mask(mask))
    };
    let kinds = [kind(config.full_mask())?, kind(config.sliding_mask())?];
    let attention = Box::new(PerLayer::by_type(kinds, &config.layer_types));
    let embeddings = Embeddings::of_tokens(tokens);
    Ok(Box::new(LayerStack::new(embeddings, layers, Some(norm), attention, common.layer_shape(true), weights)?))
}

fn layer(config: &DecoderConfig, names: &TensorNames, weights: &mut Weights) -> Result<TransformerLayer, LoadError> {
    let CommonConfig { hidden, heads, intermediate, activation, norm_eps, .. } = config.common;
    let attention = names.at("self_attn");
    let (width, kv_width) = (heads.attention_width(), heads.kv_width());
    let qkv = [("q_proj", width), ("k_proj", kv_width), ("v_proj", kv_width)];
    let qkv = qkv.map(|(name, width)| (attention.at(name), width));
    let head_norm =
        |name, weights: &mut Weights| Norm::rms_norm(&attention.at(name), heads.head_dim, norm_eps, weights);
    let head_norms = match config.head_norms {
        true => Some(HeadNorms { heads, query: head_norm("q_norm", weights)?, key: head_norm("k_norm", weights)? }),
        false => None,
    };
    Ok(TransformerLayer {
        qkv_proj: Linear::load_fused(&qkv, hidden, config.qkv_bias, weights)?,
        head_norms,
        out_proj: Linear::load(&attention.at("o_proj"), width, hidden, config.out_bias, weights)?,
        attention_norms: HalfNorms::pre(config.common.rms_norm(&names.at("input_layernorm"), weights)?),
        mlp: Mlp::load_gated(&names.at("mlp"), hidden, intermediate, activation, config.mlp_bias, weights)?,
        mlp_norms: HalfNorms::pre(config.common.rms_norm(&names.at("post_attention_layernorm"), weights)?),
    })
}

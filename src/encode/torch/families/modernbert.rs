//! ModernBERT (Warner et al. 2024) over packed sequences: norms before each half of a layer, rotary position embeddings, a
//! gated MLP, and layers with a sliding window between layers with full attention. transformers' `ModernBertModel`.

use super::common::{ActivationKey, CommonConfig, CommonKeys, NormEps};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::attention::mask::AttentionMask;
use crate::encode::torch::attention::per_layer::PerLayer;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layer_types::{LayerType, layer_types};
use crate::encode::torch::layers::{EmbeddingStep, Embeddings, HalfNorms, Linear, Mlp, Norm, TransformerLayer};
use crate::encode::torch::rotary::Rotary;
use crate::encode::torch::rotary::config::ThetaKey;
use crate::encode::torch::rotary::frequencies::RopeFrequencies;
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

const KEYS: CommonKeys = CommonKeys {
    activation: ActivationKey::Key { key: "hidden_activation", default: "gelu" },
    norm_eps: NormEps::Keys { keys: &["norm_eps"], default: 1e-5 },
    ..CommonKeys::BERT
};
/// For each type of layer.
const THETAS: [ThetaKey; 2] = [
    ThetaKey { key: "global_rope_theta", default: 160_000.0 },
    ThetaKey { key: "local_rope_theta", default: 10_000.0 },
];

/// The keys of config.json that change the vectors.
struct ModernbertConfig {
    common: CommonConfig,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    layer_types: Vec<LayerType>,
    /// For each type of layer.
    frequencies: [RopeFrequencies; 2],
    /// The furthest that a token sees through the sliding window.
    max_distance: i64,
}

impl ModernbertConfig {
    fn read(file: &ConfigFile) -> Result<ModernbertConfig, LoadError> {
        keys::refuse_decoders(file)?;
        let common = CommonConfig::read(file, &KEYS)?;
        let head_dim = common.heads.head_dim;
        let every = file.count("global_attn_every_n_layers", 1..=keys::LAYERS_MAX)?.unwrap_or(3);
        let frequencies = |layer_type: LayerType| {
            RopeFrequencies::read_for_layer_type(file, layer_type, head_dim, THETAS[layer_type.index()], true)
        };
        let default = |layer: usize| LayerType::sliding_if(!layer.is_multiple_of(every));
        Ok(ModernbertConfig {
            norm_bias: file.flag("norm_bias")?,
            attention_bias: file.flag("attention_bias")?,
            mlp_bias: file.flag("mlp_bias")?,
            layer_types: layer_types(file, common.layers, default)?,
            frequencies: [frequencies(LayerType::Full)?, frequencies(LayerType::Sliding)?],
            // The window's width is that of both sides together.
            max_distance: file.count("local_attention", 0..=keys::ROWS_MAX)?.unwrap_or(128) as i64 / 2,
            common,
        })
    }

    fn norm(&self, names: &TensorNames, weights: &mut Weights) -> Result<Norm, LoadError> {
        Norm::layer_norm(names, self.common.hidden, self.common.norm_eps, self.norm_bias, weights)
    }
}

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(ModernbertConfig::read(file)?.common.sizes())
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = ModernbertConfig::read(file)?;
    let common = &config.common;
    let names = TensorNames::root(&["model"]);
    let tokens = names.at("embeddings.tok_embeddings.weight");
    let tokens = weights.take(&tokens, &[common.vocab_size, common.hidden])?;
    let steps = vec![EmbeddingStep::Norm(config.norm(&names.at("embeddings.norm"), weights)?)];
    let layer_names = names.at("layers");
    let layers = (0..common.layers).map(|index| layer(&config, index, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("layers.")?;
    let norm = config.norm(&names.at("final_norm"), weights)?;
    let kind = |layer_type: LayerType, mask| -> Result<DotProduct, LoadError> {
        let rotary = Rotary::new(&config.frequencies[layer_type.index()], tokens.device());
        let rotary = rotary.map_err(|error| weights.load_error(&error))?;
        Ok(DotProduct::plain(common.heads, &tokens).with_rotary(rotary).with_mask(mask))
    };
    let window = AttentionMask { causal: false, max_distance: Some(config.max_distance) };
    let kinds = [kind(LayerType::Full, AttentionMask::FULL)?, kind(LayerType::Sliding, window)?];
    let attention = Box::new(PerLayer::by_type(kinds, &config.layer_types));
    let embeddings = Embeddings { steps, ..Embeddings::of_tokens(tokens) };
    Ok(Box::new(LayerStack::new(embeddings, layers, Some(norm), attention, common.layer_shape(true), weights)?))
}

fn layer(
    config: &ModernbertConfig,
    index: usize,
    names: &TensorNames,
    weights: &mut Weights,
) -> Result<TransformerLayer, LoadError> {
    let CommonConfig { hidden, intermediate, activation, .. } = config.common;
    let (attention_bias, bias) = (config.attention_bias, config.mlp_bias);
    // The norm of the embeddings is that of the first layer's input.
    let attention_norms = match index {
        0 => HalfNorms::default(),
        _ => HalfNorms::pre(config.norm(&names.at("attn_norm"), weights)?),
    };
    let [gate_proj, up_proj] = Linear::load_halves(&names.at("mlp.Wi"), hidden, intermediate, bias, weights)?;
    Ok(TransformerLayer {
        qkv_proj: Linear::load(&names.at("attn.Wqkv"), hidden, 3 * hidden, attention_bias, weights)?,
        head_norms: None,
        out_proj: Linear::load(&names.at("attn.Wo"), hidden, hidden, attention_bias, weights)?,
        attention_norms,
        mlp: Mlp {
            gate_proj: Some(gate_proj),
            up_proj,
            activation,
            down_proj: Linear::load(&names.at("mlp.Wo"), intermediate, hidden, bias, weights)?,
        },
        mlp_norms: HalfNorms::pre(config.norm(&names.at("mlp_norm"), weights)?),
    })
}

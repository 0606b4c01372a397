//! ALBERT (Lan et al. 2020) over packed sequences: narrow embeddings with a projection, and few layers that are computed
//! again and again. transformers' `AlbertModel`.

use super::common::{ActivationKey, CommonConfig, CommonKeys};
use super::post_norm::{PostNormNames, post_norm_layer};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{
    EmbeddingStep, Embeddings, Linear, Norm, PositionOffset, TransformerLayer, token_embeddings_with_segment_0,
};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

const KEYS: CommonKeys =
    CommonKeys { activation: ActivationKey::Key { key: "hidden_act", default: "gelu_new" }, ..CommonKeys::BERT };

/// The keys of config.json that change the vectors.
struct AlbertConfig {
    /// Its `layers` are the passes through the groups.
    common: CommonConfig,
    /// Width of the embeddings, before the projection.
    embedding_size: i64,
    /// Groups of layers with weights of their own; the passes are divided among them in order.
    groups: usize,
    /// Layers of a group, all of which a pass computes.
    group_layers: usize,
    token_types: i64,
}

impl AlbertConfig {
    fn read(file: &ConfigFile) -> Result<AlbertConfig, LoadError> {
        keys::refuse_others(file, &[("position_embedding_type", "absolute")])?;
        keys::refuse_decoders(file)?;
        let common = CommonConfig::read(file, &KEYS)?;
        Ok(AlbertConfig {
            embedding_size: keys::width_or(file, "embedding_size", 128)?,
            groups: file.count("num_hidden_groups", 1..=common.layers)?.unwrap_or(1),
            group_layers: file.count("inner_group_num", 1..=keys::LAYERS_MAX)?.unwrap_or(1),
            token_types: keys::token_types(file, 1, 2)?,
            common,
        })
    }
}

/// A layer's modules in transformers' checkpoints.
const LAYER: PostNormNames = PostNormNames {
    qkv: ["attention.query", "attention.key", "attention.value"],
    out_proj: "attention.dense",
    attention_norm: "attention.LayerNorm",
    up_proj: "ffn",
    down_proj: "ffn_output",
    mlp_norm: "full_layer_layer_norm",
};

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let config = AlbertConfig::read(file)?;
    Ok(Sizes { layers: config.common.layers * config.group_layers, ..config.common.sizes() })
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = AlbertConfig::read(file)?;
    let names = TensorNames::root(&["albert"]);
    let embeddings = embeddings(&config, &names, weights)?;
    let mut groups = Vec::with_capacity(config.groups);
    for group in 0..config.groups {
        let names = names.at("encoder.albert_layer_groups").index(group).at("albert_layers");
        let layers =
            (0..config.group_layers).map(|index| post_norm_layer(&config.common, &LAYER, &names.index(index), weights));
        groups.push(layers.collect::<Result<Vec<_>, _>>()?);
    }
    weights.ensure_all_used("albert_layer_groups.")?;
    // The group of a pass, rounded as in transformers' `AlbertTransformer.forward`.
    let passes = config.common.layers;
    let group = |pass: usize| (pass as f64 / (passes as f64 / config.groups as f64)) as usize;
    let layers = (0..passes).flat_map(|pass| &groups[group(pass).min(config.groups - 1)]);
    let layers = layers.map(TransformerLayer::share).collect();
    let attention = Box::new(DotProduct::plain(config.common.heads, &embeddings.tokens));
    Ok(Box::new(LayerStack::new(embeddings, layers, None, attention, config.common.layer_shape(false), weights)?))
}

fn embeddings(config: &AlbertConfig, names: &TensorNames, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let AlbertConfig { common, embedding_size: width, token_types, .. } = config;
    let tables = names.at("embeddings");
    let tokens = token_embeddings_with_segment_0(&tables, common.vocab_size, *width, *token_types, weights)?;
    let positions = common.position_embeddings(&tables, *width, PositionOffset::Zero, weights)?;
    let norm = Norm::layer_norm(&tables.at("LayerNorm"), *width, common.norm_eps, true, weights)?;
    let projection = names.at("encoder.embedding_hidden_mapping_in");
    let projection = Linear::load(&projection, *width, common.hidden, true, weights)?;
    Ok(Embeddings { tokens, positions, steps: vec![EmbeddingStep::Norm(norm), EmbeddingStep::Project(projection)] })
}

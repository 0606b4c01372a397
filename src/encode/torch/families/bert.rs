//! BERT (Devlin et al. 2018) over packed sequences, and the models that differ from it in their embeddings alone: RoBERTa
//! (Liu et al. 2019), XLM-RoBERTa, CamemBERT, and ELECTRA (Clark et al. 2020).
//!
//! Embeddings, then layers of attention and a two-layer MLP, each with a residual and a LayerNorm after it. The vectors are
//! those of transformers' `BertModel` in float32; operations that only change rounding are kept in its order where that
//! costs nothing. Query, key and value are one matrix product.

use super::common::{CommonConfig, CommonKeys};
use super::post_norm::{PostNormNames, post_norm_layer};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{
    EmbeddingStep, Embeddings, Linear, Norm, PositionOffset, token_embeddings_with_segment_0,
};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// The keys of config.json that change the vectors.
struct BertConfig {
    common: CommonConfig,
    /// Width of the embeddings, before ELECTRA's projection.
    embedding_size: i64,
    position_offset: PositionOffset,
    token_types: i64,
}

impl BertConfig {
    fn read(model_type: &str, file: &ConfigFile) -> Result<BertConfig, LoadError> {
        keys::refuse_others(file, &[("position_embedding_type", "absolute")])?;
        keys::refuse_decoders(file)?;
        let common = CommonConfig::read(file, &CommonKeys::BERT)?;
        Ok(BertConfig {
            embedding_size: match model_type {
                "electra" => keys::width_or(file, "embedding_size", 128)?,
                _ => common.hidden,
            },
            position_offset: match model_type {
                "bert" | "electra" => PositionOffset::Zero,
                _ => PositionOffset::AfterPadding(padding_idx(file)?),
            },
            token_types: keys::token_types(file, 1, 2)?,
            common,
        })
    }
}

/// The padding token that RoBERTa's positions begin after; 1 is the default of its configuration class.
fn padding_idx(file: &ConfigFile) -> Result<i64, LoadError> {
    let max = file.required_count("max_position_embeddings", 1..=keys::ROWS_MAX)?.saturating_sub(2);
    Ok(file.count("pad_token_id", 0..=max)?.unwrap_or(1) as i64)
}

/// A layer's modules in transformers' checkpoints.
const LAYER: PostNormNames = PostNormNames {
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out_proj: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up_proj: "intermediate.dense",
    down_proj: "output.dense",
    mlp_norm: "output.LayerNorm",
};

pub(super) fn check(model_type: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let BertConfig { common, position_offset, .. } = BertConfig::read(model_type, file)?;
    let max_positions = common.max_positions.map(|rows| position_offset.max_tokens(rows).max(1));
    Ok(CommonConfig { max_positions, ..common }.sizes())
}

pub(super) fn build(
    model_type: &str,
    file: &ConfigFile,
    weights: &mut Weights,
) -> Result<Box<dyn Transformer>, LoadError> {
    let config = BertConfig::read(model_type, file)?;
    let common = &config.common;
    let names = TensorNames::root(&[match model_type {
        "bert" => "bert",
        "electra" => "electra",
        _ => "roberta",
    }]);
    let embeddings = embeddings(&config, &names, weights)?;
    let layer_names = names.at("encoder.layer");
    let layers = (0..common.layers).map(|index| post_norm_layer(common, &LAYER, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("encoder.layer.")?;
    let attention = Box::new(DotProduct::plain(common.heads, &embeddings.tokens));
    Ok(Box::new(LayerStack::new(embeddings, layers, None, attention, common.layer_shape(false), weights)?))
}

fn embeddings(config: &BertConfig, names: &TensorNames, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let BertConfig { common, embedding_size: width, position_offset, token_types } = config;
    let tables = names.at("embeddings");
    let tokens = token_embeddings_with_segment_0(&tables, common.vocab_size, *width, *token_types, weights)?;
    let positions = common.position_embeddings(&tables, *width, *position_offset, weights)?;
    let norm = Norm::layer_norm(&tables.at("LayerNorm"), *width, common.norm_eps, true, weights)?;
    let mut steps = vec![EmbeddingStep::Norm(norm)];
    if *width != common.hidden {
        let projection = Linear::load(&names.at("embeddings_project"), *width, common.hidden, true, weights)?;
        steps.push(EmbeddingStep::Project(projection));
    }
    Ok(Embeddings { tokens, positions, steps })
}

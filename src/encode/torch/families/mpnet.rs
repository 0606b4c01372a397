//! MPNet (Song et al. 2020) over packed sequences: BERT's layers, positions counted as RoBERTa does, and a relative attention
//! bias that all layers share. transformers' `MPNetModel`.

use super::common::{CommonConfig, CommonKeys};
use super::post_norm::{PostNormNames, post_norm_layer};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::attention::relative_bias::RelativeBias;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{EmbeddingStep, Embeddings, PositionOffset, token_embeddings_with_segment_0};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// `MPNetEmbeddings` has this padding token, whatever `pad_token_id` says.
const POSITION_OFFSET: PositionOffset = PositionOffset::AfterPadding(1);
/// `MPNetEncoder.compute_position_bias` uses this many buckets, whatever `relative_attention_num_buckets` says: that is only
/// the number of rows of the table.
const BUCKETS: i64 = 32;
/// From this distance on all relative positions share the last bucket.
const MAX_DISTANCE: i64 = 128;

/// The keys of config.json that change the vectors.
struct MpnetConfig {
    common: CommonConfig,
    /// Rows of the relative bias, at least [`BUCKETS`].
    bias_rows: i64,
}

impl MpnetConfig {
    fn read(file: &ConfigFile) -> Result<MpnetConfig, LoadError> {
        keys::refuse_decoders(file)?;
        let min = BUCKETS as usize;
        let bias_rows = file.count("relative_attention_num_buckets", min..=keys::ROWS_MAX)?.unwrap_or(min) as i64;
        // Two rows come before the first token's.
        file.required_count("max_position_embeddings", 3..=keys::ROWS_MAX)?;
        Ok(MpnetConfig { common: CommonConfig::read(file, &CommonKeys::BERT)?, bias_rows })
    }
}

/// A layer's modules in transformers' checkpoints.
const LAYER: PostNormNames = PostNormNames {
    qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    out_proj: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    up_proj: "intermediate.dense",
    down_proj: "output.dense",
    mlp_norm: "output.LayerNorm",
};

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    let common = MpnetConfig::read(file)?.common;
    let max_positions = common.max_positions.map(|rows| POSITION_OFFSET.max_tokens(rows));
    Ok(CommonConfig { max_positions, ..common }.sizes())
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let MpnetConfig { common: config, bias_rows } = MpnetConfig::read(file)?;
    let names = TensorNames::root(&["mpnet"]);
    let tables = names.at("embeddings");
    let tokens = token_embeddings_with_segment_0(&tables, config.vocab_size, config.hidden, 0, weights)?;
    let positions = config.position_embeddings(&tables, config.hidden, POSITION_OFFSET, weights)?;
    let steps = vec![EmbeddingStep::Norm(config.layer_norm(&tables.at("LayerNorm"), weights)?)];
    let encoder = names.at("encoder");
    let bias = encoder.at("relative_attention_bias.weight");
    let table = weights.take(&bias, &[bias_rows, config.heads.query_heads])?;
    let relative_bias = RelativeBias { table, buckets: BUCKETS, max_distance: MAX_DISTANCE };
    let layer_names = encoder.at("layer");
    let layers = (0..config.layers).map(|index| post_norm_layer(&config, &LAYER, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("encoder.layer.")?;
    let attention = Box::new(DotProduct::plain(config.heads, &tokens).with_relative_bias(relative_bias));
    let embeddings = Embeddings { tokens, positions, steps };
    Ok(Box::new(LayerStack::new(embeddings, layers, None, attention, config.layer_shape(false), weights)?))
}

//! DistilBERT (Sanh et al. 2019) over packed sequences: BERT's layers under other names, without token types. transformers'
//! `DistilBertModel`.

use super::common::{ActivationKey, CommonConfig, CommonKeys, NormEps};
use super::post_norm::{PostNormNames, post_norm_layer};
use crate::encode::torch::attention::dot_product::DotProduct;
use crate::encode::torch::config_keys as keys;
use crate::encode::torch::layer_stack::LayerStack;
use crate::encode::torch::layers::{EmbeddingStep, Embeddings, PositionOffset, token_embeddings_with_segment_0};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// `sinusoidal_pos_embds` is not read: it does not change the vectors, since the table is in the checkpoint.
const KEYS: CommonKeys = CommonKeys {
    hidden_size: &["dim"],
    layers: &["n_layers"],
    heads: &["n_heads"],
    intermediate_size: &["hidden_dim"],
    activation: ActivationKey::Key { key: "activation", default: "gelu" },
    // transformers' `DistilBertModel` has no key for it.
    norm_eps: NormEps::Fixed(1e-12),
    ..CommonKeys::BERT
};

fn read(file: &ConfigFile) -> Result<CommonConfig, LoadError> {
    keys::refuse_decoders(file)?;
    CommonConfig::read(file, &KEYS)
}

/// A layer's modules in transformers' checkpoints.
const LAYER: PostNormNames = PostNormNames {
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    out_proj: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up_proj: "ffn.lin1",
    down_proj: "ffn.lin2",
    mlp_norm: "output_layer_norm",
};

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(read(file)?.sizes())
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = read(file)?;
    let names = TensorNames::root(&["distilbert"]);
    let tables = names.at("embeddings");
    let tokens = token_embeddings_with_segment_0(&tables, config.vocab_size, config.hidden, 0, weights)?;
    let positions = config.position_embeddings(&tables, config.hidden, PositionOffset::Zero, weights)?;
    let steps = vec![EmbeddingStep::Norm(config.layer_norm(&tables.at("LayerNorm"), weights)?)];
    let layer_names = names.at("transformer.layer");
    let layers = (0..config.layers).map(|index| post_norm_layer(&config, &LAYER, &layer_names.index(index), weights));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    weights.ensure_all_used("transformer.layer.")?;
    let attention = Box::new(DotProduct::plain(config.heads, &tokens));
    let embeddings = Embeddings { tokens, positions, steps };
    Ok(Box::new(LayerStack::new(embeddings, layers, None, attention, config.layer_shape(false), weights)?))
}

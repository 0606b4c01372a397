//! DeBERTa v2 and v3 (He et al. 2021, 2023) over packed sequences: BERT's layers with disentangled attention, and in some
//! models a convolution over neighbouring tokens beside the first layer. transformers' `DebertaV2Model`.

use tch::{TchError, Tensor};

use super::deberta_config::{ConvolutionConfig, DebertaConfig};
use super::post_norm::{PostNormNames, post_norm_layer};
use crate::encode::torch::attention::Attention;
use crate::encode::torch::attention::disentangled::{Buckets, Disentangled, RelativePositions};
use crate::encode::torch::attention::heads::Heads;
use crate::encode::torch::layers::{
    EmbeddingStep, Embeddings, Linear, Norm, PositionOffset, TransformerLayer, WeightedLayerSum, Workspace,
    token_embeddings_with_segment_0,
};
use crate::encode::torch::packed_batch::PackedBatch;
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::transformer::Transformer;
use crate::encode::torch::weights::Weights;
use crate::model::config_file::ConfigFile;
use crate::model::{LoadError, Sizes};

/// A layer's modules in transformers' checkpoints.
const LAYER: PostNormNames = PostNormNames {
    qkv: ["attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"],
    out_proj: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up_proj: "intermediate.dense",
    down_proj: "output.dense",
    mlp_norm: "output.LayerNorm",
};

pub(super) fn check(_: &str, file: &ConfigFile) -> Result<Sizes, LoadError> {
    Ok(DebertaConfig::read(file)?.common.sizes())
}

pub(super) fn build(_: &str, file: &ConfigFile, weights: &mut Weights) -> Result<Box<dyn Transformer>, LoadError> {
    let config = DebertaConfig::read(file)?;
    let common = &config.common;
    let names = TensorNames::root(&["deberta"]);
    let embeddings = embeddings(&config, &names.at("embeddings"), weights)?;
    let encoder = names.at("encoder");
    let table = relative_embeddings(&config, &encoder, weights)?;
    let (mut layers, mut positions) = (Vec::new(), Vec::new());
    for index in 0..common.layers {
        let names = encoder.at("layer").index(index);
        layers.push(post_norm_layer(common, &LAYER, &names, weights)?);
        positions.push(relative_positions(&config, table.as_ref(), &names.at("attention.self"), weights)?);
    }
    weights.ensure_all_used("encoder.layer.")?;
    let convolution = config.convolution.map(|own| Convolution::load(&config, own, &encoder.at("conv"), weights));
    // Without relative attention no bucket is looked up.
    let no_buckets = Buckets { span: 1, max_log_distance: None };
    let buckets = config.relative_attention.as_ref().map_or(no_buckets, |relative| relative.buckets);
    let attention = Disentangled::new(common.heads, buckets, config.scale_factor, positions, &embeddings.tokens);
    let attention = Box::new(attention.map_err(|error| weights.load_error(&error))?);
    let workspace = Workspace::new(common.layer_shape(false), &embeddings.tokens);
    let workspace = workspace.map_err(|error| weights.load_error(&error))?;
    Ok(Box::new(Deberta { embeddings, layers, convolution: convolution.transpose()?, attention, workspace }))
}

fn embeddings(config: &DebertaConfig, names: &TensorNames, weights: &mut Weights) -> Result<Embeddings, LoadError> {
    let DebertaConfig { common, embedding_size: width, token_types, .. } = config;
    let tokens = token_embeddings_with_segment_0(names, common.vocab_size, *width, *token_types, weights)?;
    let positions = match config.position_biased_input {
        true => common.position_embeddings(names, *width, PositionOffset::Zero, weights)?,
        false => None,
    };
    let mut steps = Vec::new();
    if *width != common.hidden {
        let projection = Linear::load(&names.at("embed_proj"), *width, common.hidden, false, weights)?;
        steps.push(EmbeddingStep::Project(projection));
    }
    steps.push(EmbeddingStep::Norm(common.layer_norm(&names.at("LayerNorm"), weights)?));
    Ok(Embeddings { tokens, positions, steps })
}

/// The embeddings of relative positions, normalised if the model says so. `[2 * span, hidden]`
fn relative_embeddings(
    config: &DebertaConfig,
    encoder: &TensorNames,
    weights: &mut Weights,
) -> Result<Option<Tensor>, LoadError> {
    let Some(relative) = &config.relative_attention else { return Ok(None) };
    let shape = [2 * relative.buckets.span, config.common.hidden];
    let table = weights.take(&encoder.at("rel_embeddings.weight"), &shape)?;
    if !relative.normalized {
        return Ok(Some(table));
    }
    let norm = config.common.layer_norm(&encoder.at("LayerNorm"), weights)?;
    norm.forward(&table).map(Some).map_err(|error| weights.load_error(&error))
}

/// A layer's projections of the embeddings of relative positions, `table`, `[2 * span, hidden]`.
fn relative_positions(
    config: &DebertaConfig,
    table: Option<&Tensor>,
    names: &TensorNames,
    weights: &mut Weights,
) -> Result<RelativePositions, LoadError> {
    let (Some(table), Some(relative)) = (table, &config.relative_attention) else {
        return Ok(RelativePositions { keys: None, queries: None });
    };
    let (hidden, heads) = (config.common.hidden, config.common.heads);
    let Heads { query_heads, head_dim, .. } = heads;
    let mut project = |wanted: bool, content: &str, position: &str| -> Result<Option<Tensor>, LoadError> {
        if !wanted {
            return Ok(None);
        }
        let names = names.at(if relative.shares_projections { content } else { position });
        let projection = Linear::load(&names, hidden, heads.attention_width(), true, weights)?;
        // [2 * span, heads, head_dim] → [heads, head_dim, 2 * span]
        let projected =
            || projection.forward(table)?.f_view([-1, query_heads, head_dim])?.f_permute([1, 2, 0])?.f_contiguous();
        projected().map(Some).map_err(|error| weights.load_error(&error))
    };
    Ok(RelativePositions {
        keys: project(relative.content_to_position, "key_proj", "pos_key_proj")?,
        queries: project(relative.position_to_content, "query_proj", "pos_query_proj")?,
    })
}

/// A [`LayerStack`](crate::encode::torch::layer_stack::LayerStack) with a convolution beside its first layer.
struct Deberta {
    embeddings: Embeddings,
    layers: Vec<TransformerLayer>,
    convolution: Option<Convolution>,
    attention: Box<dyn Attention>,
    workspace: Workspace,
}

impl Transformer for Deberta {
    fn forward(&mut self, batch: &PackedBatch, mut layer_sum: WeightedLayerSum<'_>) -> Result<Tensor, TchError> {
        self.attention.prepare(batch)?;
        let mut buffers = self.workspace.for_batch(batch.tokens)?;
        let mut hidden_states = self.embeddings.forward(batch)?;
        // Layers write over their input, so the convolution needs a copy of the embeddings.
        let embedded = if self.convolution.is_some() { Some(hidden_states.f_detach_copy()?) } else { None };
        for (index, layer) in self.layers.iter().enumerate() {
            layer_sum.add_input(index, &hidden_states)?;
            hidden_states = layer.forward(index, hidden_states, self.attention.as_ref(), batch, &mut buffers)?;
            if let (0, Some(convolution), Some(embedded)) = (index, &self.convolution, &embedded) {
                hidden_states = convolution.forward(embedded, hidden_states, batch)?;
            }
        }
        layer_sum.finish(hidden_states)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        Ok(Box::new(Deberta {
            embeddings: self.embeddings.share(),
            layers: self.layers.iter().map(TransformerLayer::share).collect(),
            convolution: self.convolution.as_ref().map(Convolution::share),
            attention: self.attention.share(),
            workspace: self.workspace.new_like()?,
        }))
    }
}

/// norm(layer output + activation(convolution(embeddings))), each sequence by itself with zeros around it; transformers'
/// `ConvLayer`.
struct Convolution {
    /// `[hidden, hidden / groups, kernel_size]`
    weight: Tensor,
    /// `[hidden]`
    bias: Tensor,
    config: ConvolutionConfig,
    norm: Norm,
}

impl Convolution {
    fn load(
        config: &DebertaConfig,
        own: ConvolutionConfig,
        names: &TensorNames,
        weights: &mut Weights,
    ) -> Result<Convolution, LoadError> {
        let hidden = config.common.hidden;
        Ok(Convolution {
            weight: weights.take(&names.at("conv.weight"), &[hidden, hidden / own.groups, own.kernel_size])?,
            bias: weights.take(&names.at("conv.bias"), &[hidden])?,
            config: own,
            norm: config.common.layer_norm(&names.at("LayerNorm"), weights)?,
        })
    }

    /// Takes the embeddings and the first layer's output, which it writes to. `[tokens, hidden]` all
    fn forward(&self, embedded: &Tensor, hidden_states: Tensor, batch: &PackedBatch) -> Result<Tensor, TchError> {
        let ConvolutionConfig { kernel_size, groups, activation } = self.config;
        for &group in &batch.groups {
            let x = batch.view(embedded, group)?.f_transpose(1, 2)?; // [rows, hidden, length]
            let x = x.f_conv1d(&self.weight, Some(&self.bias), [1], [(kernel_size - 1) / 2], [1], groups)?;
            let mut x = x.f_transpose(1, 2)?.f_contiguous()?; // [rows, length, hidden]
            activation.add_bias_and_apply(&mut x, None)?;
            drop(batch.view(&hidden_states, group)?.f_add_(&x)?);
        }
        self.norm.forward(&hidden_states)
    }

    fn share(&self) -> Convolution {
        Convolution {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            config: self.config,
            norm: self.norm.share(),
        }
    }
}

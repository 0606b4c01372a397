//! The parts that every family of models is made of.
//!
//! - [`embeddings`]: token ids to the vectors that the first layer takes
//! - [`transformer_layer`]: attention and an [`mlp`], each with its residual and its norms
//! - [`linear`], [`norm`], [`activation`]: the operations inside them
//! - [`workspace`]: the buffers that the results inside a layer go to
//! - [`layer_sum`]: a weighted sum over the layers

pub(super) mod activation;
pub(super) mod embeddings;
pub(super) mod layer_sum;
pub(super) mod linear;
pub(super) mod mlp;
pub(super) mod norm;
pub(super) mod transformer_layer;
pub(super) mod workspace;

pub(super) use activation::Activation;
pub(super) use embeddings::{
    EmbeddingStep, Embeddings, PositionEmbeddings, PositionOffset, token_embeddings_with_segment_0,
};
pub(super) use layer_sum::WeightedLayerSum;
pub(super) use linear::Linear;
pub(super) use mlp::Mlp;
pub(super) use norm::Norm;
pub(super) use transformer_layer::{HalfNorms, HeadNorms, TransformerLayer};
pub(super) use workspace::{LayerShape, Workspace};

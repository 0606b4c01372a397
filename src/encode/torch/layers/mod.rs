//! The parts that every family of models is made of.
//!
//! - [`embeddings`]: token ids to the vectors that the first layer takes
//! - [`transformer_layer`]: attention and an [`mlp`], each with its residual and its norms
//! - [`linear`], [`norm`], [`activation`]: the operations inside them
//! - [`workspace`]: the buffers that the results inside a layer go to
//! - [`layer_sum`]: a weighted sum over the layers

pub mod activation;
pub mod embeddings;
pub mod layer_sum;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod transformer_layer;
pub mod workspace;

pub use activation::Activation;
pub use embeddings::{EmbeddingStep, Embeddings, PositionEmbeddings, PositionOffset, token_embeddings_with_segment_0};
pub use layer_sum::WeightedLayerSum;
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::Norm;
pub use transformer_layer::{HalfNorms, HeadNorms, TransformerLayer};
pub use workspace::{LayerShape, Workspace};

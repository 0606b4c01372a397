//! Attention over packed sequences. A family is handed one implementation of [`Attention`] and does not know which.
//!
//! - [`dot_product`]: scaled dot-product attention with what families add to it: [rotary](super::rotary) position
//!   embeddings, key-value heads that several query heads share, a [`mask`], a [`relative_bias`]
//! - [`per_layer`]: several of these, one for each kind of layer
//! - [`disentangled`]: DeBERTa's attention
//! - [`heads`]: how a projection divides into heads

pub(super) mod disentangled;
pub(super) mod dot_product;
pub(super) mod heads;
pub(super) mod mask;
pub(super) mod per_layer;
pub(super) mod relative_bias;

use tch::{TchError, Tensor};

use super::packed_batch::{LengthGroup, PackedBatch};
use heads::Heads;

/// Combines the values of each sequence's tokens. No token sees another sequence.
pub(super) trait Attention: Send {
    /// Computes what all layers share for this batch. It is called once for a batch, before the first layer.
    fn prepare(&mut self, batch: &PackedBatch) -> Result<(), TchError>;

    /// Computes the attention of layer number `layer` into `out`, `[tokens, attention_width]`.
    ///
    /// `qkv` holds each token's queries, keys and values side by side, `[tokens, qkv_width]`, without their `bias`,
    /// `[qkv_width]`. What is in `qkv` afterwards is undefined.
    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &PackedBatch,
        out: &mut Tensor,
    ) -> Result<(), TchError>;

    /// The same attention for another worker on the same device.
    fn share(&self) -> Box<dyn Attention>;
}

/// Copies a group's attention output, `[rows, heads, length, head_dim]`, to its part of `out`, `[tokens, attention_width]`.
fn write_group_output(
    output: &Tensor,
    batch: &PackedBatch,
    group: LengthGroup,
    heads: Heads,
    out: &Tensor,
) -> Result<(), TchError> {
    // [rows, length, heads, head_dim]
    let mut target = batch.view(out, group)?.f_view([group.rows, group.length, heads.query_heads, heads.head_dim])?;
    target.f_copy_(&output.f_transpose(1, 2)?).map(drop)
}

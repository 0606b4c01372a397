//! The buffers that the results inside a layer go to.
//!
//! Results of the wide layers are tens of megabytes, and the page faults of fresh memory for each of them take a tenth of
//! the time. A [`Workspace`] is kept from batch to batch instead and only ever grows, up to the largest batch; every layer
//! writes over what the layer before left in it.

use tch::{TchError, Tensor};

use crate::encode::torch::attention::heads::Heads;

/// The sizes that a layer's buffers are made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerShape {
    pub heads: Heads,
    /// Width between the MLP's layers.
    pub intermediate: i64,
    /// Whether the MLP has a gate.
    pub gated: bool,
}

/// Buffers for the results inside a layer, of as many rows as the largest batch so far had tokens.
pub(crate) struct Workspace {
    shape: LayerShape,
    /// `[tokens, qkv_width]`
    qkv: Buffer,
    /// `[tokens, attention_width]`
    attention: Buffer,
    /// `[tokens, intermediate]`
    intermediate: Buffer,
    /// `[tokens, intermediate]`, or `[tokens, 0]` without a gate
    gated_up: Buffer,
}

/// The part of a [`Workspace`] that one batch uses.
pub(crate) struct BatchBuffers {
    /// Queries, keys and values. `[tokens, qkv_width]`
    pub qkv: Tensor,
    /// What attention returns, before the output projection. `[tokens, attention_width]`
    pub attention: Tensor,
    /// What the MLP's last layer takes. `[tokens, intermediate]`
    pub intermediate: Tensor,
    /// What a gate is multiplied by. `[tokens, intermediate]`, or `[tokens, 0]` without a gate
    pub gated_up: Tensor,
}

impl Workspace {
    /// Empty buffers for values of the type of `like`, on its device.
    pub(crate) fn new(shape: LayerShape, like: &Tensor) -> Result<Workspace, TchError> {
        Ok(Workspace {
            shape,
            qkv: Buffer::new(shape.heads.qkv_width(), like)?,
            attention: Buffer::new(shape.heads.attention_width(), like)?,
            intermediate: Buffer::new(shape.intermediate, like)?,
            gated_up: Buffer::new(if shape.gated { shape.intermediate } else { 0 }, like)?,
        })
    }

    /// Buffers for a batch of `tokens` tokens, with whatever values an earlier use left in them.
    pub(crate) fn for_batch(&mut self, tokens: i64) -> Result<BatchBuffers, TchError> {
        Ok(BatchBuffers {
            qkv: self.qkv.rows(tokens)?,
            attention: self.attention.rows(tokens)?,
            intermediate: self.intermediate.rows(tokens)?,
            gated_up: self.gated_up.rows(tokens)?,
        })
    }

    /// An empty workspace of the same shape on the same device.
    pub(crate) fn new_like(&self) -> Result<Workspace, TchError> {
        Workspace::new(self.shape, &self.qkv.tensor)
    }
}

/// Memory for `[tokens, width]` that is used again for each batch.
struct Buffer {
    tensor: Tensor,
    width: i64,
}

impl Buffer {
    fn new(width: i64, like: &Tensor) -> Result<Buffer, TchError> {
        Ok(Buffer { tensor: Tensor::f_empty([0, width], (like.kind(), like.device()))?, width })
    }

    /// The first `tokens` rows. `[tokens, width]`
    fn rows(&mut self, tokens: i64) -> Result<Tensor, TchError> {
        if self.tensor.size()[0] < tokens {
            // The old memory is freed before the larger one is allocated: a GPU may not have room for both.
            let options = (self.tensor.kind(), self.tensor.device());
            self.tensor = Tensor::f_empty([0, self.width], options)?;
            self.tensor = Tensor::f_empty([tokens, self.width], options)?;
        }
        self.tensor.f_narrow(0, 0, tokens)
    }
}

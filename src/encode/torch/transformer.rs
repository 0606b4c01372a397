//! What every family of models and every script computes: token ids in, token vectors out.

use tch::{TchError, Tensor};

use super::layers::layer_sum::WeightedLayerSum;
use super::packed_batch::PackedBatch;

/// A loaded model without its pooling. It may move to another thread, but one thread at a time uses it.
pub(crate) trait Transformer: Send {
    /// The token vectors of the last layer, or what `layer_sum` makes of all layers. `[tokens, hidden]`
    ///
    /// # Errors
    /// In libtorch's words, such as that memory ran out.
    fn forward(&mut self, batch: &PackedBatch, layer_sum: WeightedLayerSum<'_>) -> Result<Tensor, TchError>;

    /// The same model for another worker on the same device: it shares the weights and has buffers of its own.
    fn share(&self) -> Result<Box<dyn Transformer>, TchError>;
}

//! A weighted sum of all layers' token vectors, for sentence-transformers' module WeightedLayerPooling.

use tch::{Kind, TchError, Tensor};

/// Sums up the layers' token vectors while a model computes one layer after the other, so that only one layer's vectors
/// are in memory.
pub(crate) struct WeightedLayerSum<'a> {
    /// The weight of the embeddings, then of each layer's output; `None` where only the last layer's output is wanted.
    weights: Option<&'a [f64]>,
    /// `[tokens, hidden]`, in single precision
    sum: Option<Tensor>,
}

impl<'a> WeightedLayerSum<'a> {
    /// An empty sum. `weights` holds one number for the embeddings and one for each layer.
    pub(crate) fn new(weights: Option<&'a [f64]>) -> WeightedLayerSum<'a> {
        WeightedLayerSum { weights, sum: None }
    }

    /// Adds the input of layer `layer`, `[tokens, hidden]`. This must happen before the layer, which writes over its input.
    pub(crate) fn add_input(&mut self, layer: usize, hidden_states: &Tensor) -> Result<(), TchError> {
        let weight = self.weights.and_then(|weights| weights.get(layer)).copied().unwrap_or(0.0);
        if weight == 0.0 {
            return Ok(());
        }
        let part = hidden_states.f_to_kind(Kind::Float)?.f_mul_scalar(weight)?;
        self.sum = Some(match self.sum.take() {
            None => part,
            Some(mut sum) => sum.f_add_(&part)?,
        });
        Ok(())
    }

    /// Adds the last layer's output, `[tokens, hidden]`, after the model's final norm, and returns the sum; without weights,
    /// returns the last layer's output as it is.
    pub(crate) fn finish(mut self, last: Tensor) -> Result<Tensor, TchError> {
        let Some(weights) = self.weights else { return Ok(last) };
        self.add_input(weights.len() - 1, &last)?;
        self.sum.map_or_else(|| last.f_zeros_like(), Ok)
    }
}

//! Embeddings, layers, and a final norm where the family has one: what nearly every family is, once its weights are read.

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::layers::embeddings::Embeddings;
use super::layers::layer_sum::WeightedLayerSum;
use super::layers::norm::Norm;
use super::layers::transformer_layer::TransformerLayer;
use super::layers::workspace::{LayerShape, Workspace};
use super::packed_batch::PackedBatch;
use super::transformer::Transformer;
use super::weights::Weights;
use crate::model::LoadError;

/// A transformer whose layers all have one shape.
pub(super) struct LayerStack {
    embeddings: Embeddings,
    layers: Vec<TransformerLayer>,
    final_norm: Option<Norm>,
    attention: Box<dyn Attention>,
    workspace: Workspace,
}

impl LayerStack {
    /// Puts a model together. `weights` says where it was loaded to, for the error of a full device.
    pub(super) fn new(
        embeddings: Embeddings,
        layers: Vec<TransformerLayer>,
        final_norm: Option<Norm>,
        attention: Box<dyn Attention>,
        shape: LayerShape,
        weights: &Weights,
    ) -> Result<LayerStack, LoadError> {
        let workspace = Workspace::new(shape, &embeddings.tokens).map_err(|error| weights.load_error(&error))?;
        Ok(LayerStack { embeddings, layers, final_norm, attention, workspace })
    }
}

impl Transformer for LayerStack {
    fn forward(&mut self, batch: &PackedBatch, mut layer_sum: WeightedLayerSum<'_>) -> Result<Tensor, TchError> {
        self.attention.prepare(batch)?;
        let mut buffers = self.workspace.for_batch(batch.tokens)?;
        let mut hidden_states = self.embeddings.forward(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer_sum.add_input(index, &hidden_states)?;
            hidden_states = layer.forward(index, hidden_states, self.attention.as_ref(), batch, &mut buffers)?;
        }
        let last = match &self.final_norm {
            Some(norm) => norm.forward(&hidden_states)?,
            None => hidden_states,
        };
        layer_sum.finish(last)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        Ok(Box::new(LayerStack {
            embeddings: self.embeddings.share(),
            layers: self.layers.iter().map(TransformerLayer::share).collect(),
            final_norm: self.final_norm.as_ref().map(Norm::share),
            attention: self.attention.share(),
            workspace: self.workspace.new_like()?,
        }))
    }
}

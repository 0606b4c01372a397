//! Layers with different attention, such as a sliding window in some and full attention in others.

use tch::{TchError, Tensor};

use super::Attention;
use super::dot_product::DotProduct;
use crate::encode::torch::layer_types::LayerType;
use crate::encode::torch::packed_batch::PackedBatch;

/// A few kinds of attention, and which layer has which.
pub(crate) struct PerLayer {
    pub kinds: Vec<DotProduct>,
    /// For each layer an index into `kinds`.
    pub kind_of_layer: Vec<usize>,
}

impl PerLayer {
    /// One kind for each type of layer, in the order of [`LayerType::ALL`], and each layer's type.
    pub(crate) fn by_type(kinds: [DotProduct; LayerType::ALL.len()], layer_types: &[LayerType]) -> PerLayer {
        let kind_of_layer = layer_types.iter().map(|layer_type| layer_type.index()).collect();
        PerLayer { kinds: kinds.into(), kind_of_layer }
    }
}

impl Attention for PerLayer {
    fn prepare(&mut self, batch: &PackedBatch) -> Result<(), TchError> {
        self.kinds.iter_mut().try_for_each(|kind| kind.prepare(batch))
    }

    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &PackedBatch,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        self.kinds[self.kind_of_layer[layer]].attend(layer, qkv, bias, batch, out)
    }

    fn share(&self) -> Box<dyn Attention> {
        let kinds = self.kinds.iter().map(DotProduct::new_like).collect();
        Box::new(PerLayer { kinds, kind_of_layer: self.kind_of_layer.clone() })
    }
}

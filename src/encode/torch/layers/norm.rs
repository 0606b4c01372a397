//! Normalisations over the last axis: LayerNorm and RMSNorm.

use tch::{TchError, Tensor};

use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::LoadError;

/// What a vector is divided by before it is scaled by the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NormKind {
    /// The mean is subtracted and the rest divided by its standard deviation (Ba et al. 2016).
    LayerNorm,
    /// The vector is divided by its root mean square (Zhang & Sennrich 2019).
    RmsNorm,
}

/// A normalisation with its weights.
pub(crate) struct Norm {
    /// `[width]`
    weight: Tensor,
    /// `[width]`
    bias: Option<Tensor>,
    width: i64,
    eps: f64,
    kind: NormKind,
}

impl Norm {
    /// LayerNorm; some families have no bias.
    pub(crate) fn layer_norm(
        names: &TensorNames,
        width: i64,
        eps: f64,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Norm, LoadError> {
        // Checkpoints that were converted from TensorFlow call the two gamma and beta.
        let weight = weights.take(&names.either(&["weight", "gamma"]), &[width])?;
        let bias = if bias { Some(weights.take(&names.either(&["bias", "beta"]), &[width])?) } else { None };
        Ok(Norm { weight, bias, width, eps, kind: NormKind::LayerNorm })
    }

    /// RMSNorm, which has no bias.
    pub(crate) fn rms_norm(
        names: &TensorNames,
        width: i64,
        eps: f64,
        weights: &mut Weights,
    ) -> Result<Norm, LoadError> {
        let weight = weights.take(&names.at("weight"), &[width])?;
        Ok(Norm { weight, bias: None, width, eps, kind: NormKind::RmsNorm })
    }

    /// The same norm with 1 added to every weight, for families whose checkpoints hold the weights' difference from 1.
    pub(crate) fn with_weights_plus_one(mut self) -> Result<Norm, TchError> {
        drop(self.weight.f_add_scalar_(1.0)?);
        Ok(self)
    }

    /// The same norm for another worker: the weights are shared.
    pub(crate) fn share(&self) -> Norm {
        Norm { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone), ..*self }
    }

    /// `[…, width]` → `[…, width]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self.kind {
            NormKind::LayerNorm => {
                x.f_layer_norm([self.width], Some(&self.weight), self.bias.as_ref(), self.eps, false)
            }
            NormKind::RmsNorm => x.f_rms_norm([self.width], Some(&self.weight), self.eps),
        }
    }
}

//! Linear layers: x Wᵀ + b, alone or several fused into one matrix product.

use tch::{TchError, Tensor};

use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::LoadError;

/// x Wᵀ + b, or x Wᵀ without a bias; PyTorch's `nn.Linear`.
pub(crate) struct Linear {
    /// The transposed view of the checkpoint's `[out_features, in_features]`. `[in_features, out_features]`
    weight: Tensor,
    /// `[out_features]`
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight`, `[out_features, in_features]`, and `bias`, `[out_features]`.
    pub(crate) fn load(
        names: &TensorNames,
        in_features: i64,
        out_features: i64,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        Linear::load_fused(&[(names.clone(), out_features)], in_features, bias, weights)
    }

    /// Several layers on the same input as one layer with their outputs side by side. Each part is its names and its
    /// number of output features.
    pub(crate) fn load_fused(
        parts: &[(TensorNames, i64)],
        in_features: i64,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        let mut matrices = Vec::new();
        let mut biases = Vec::new();
        for (names, out_features) in parts {
            matrices.push(weights.take(&names.at("weight"), &[*out_features, in_features])?);
            if bias {
                biases.push(weights.take(&names.at("bias"), &[*out_features])?);
            }
        }
        let fuse = || {
            let bias = if bias { Some(Tensor::f_cat(&biases, 0)?) } else { None };
            Ok(Linear { weight: Tensor::f_cat(&matrices, 0)?.f_transpose(0, 1)?, bias })
        };
        fuse().map_err(|error| weights.load_error(&error))
    }

    /// Two layers of equal size that the checkpoint keeps in one matrix, `[2 * out_features, in_features]`.
    pub(crate) fn load_halves(
        names: &TensorNames,
        in_features: i64,
        out_features: i64,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<[Linear; 2], LoadError> {
        let both = Linear::load(names, in_features, 2 * out_features, bias, weights)?;
        let half = |start| -> Result<Linear, TchError> {
            let bias = both.bias.as_ref().map(|bias| bias.f_narrow(0, start, out_features)).transpose()?;
            Ok(Linear { weight: both.weight.f_narrow(1, start, out_features)?, bias })
        };
        let halves = || Ok([half(0)?, half(out_features)?]);
        halves().map_err(|error| weights.load_error(&error))
    }

    /// The same layer for another worker: the weights are shared.
    pub(crate) fn share(&self) -> Linear {
        Linear { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// Writes x Wᵀ to `out`, `[tokens, out_features]`, and leaves the [`bias`](Linear::bias) to the operation that comes
    /// next, which reads every value anyhow. If libtorch's product took the bias, it would first copy it to every row and
    /// then read it back.
    pub(crate) fn multiply_into(&self, x: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
        x.f_mm_out(out, &self.weight).map(drop)
    }

    /// `[out_features]`
    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Adds x Wᵀ + b to `sum`, `[tokens, out_features]`, in place, so that a residual needs no pass of its own.
    pub(crate) fn add_to(&self, x: &Tensor, sum: &mut Tensor) -> Result<(), TchError> {
        if let Some(bias) = &self.bias {
            drop(sum.f_add_(bias)?);
        }
        sum.f_addmm_(x, &self.weight).map(drop)
    }

    /// x Wᵀ + b as a new tensor. `[tokens, out_features]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.bias {
            Some(bias) => bias.f_addmm(x, &self.weight),
            None => x.f_mm(&self.weight),
        }
    }
}

//! Activation functions, applied in place together with the bias of the linear layer before them.

use std::borrow::Cow;

use tch::{TchError, Tensor};

use crate::encode::torch::memory;
use crate::encode::torch::simd::gelu::add_bias_and_gelu;

/// An activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// GELU by the error function (Hendrycks & Gimpel 2016).
    GeluErf,
    /// GELU by its approximation with tanh.
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl Activation {
    /// The names that an error lists.
    pub(crate) const KNOWN: &str = "gelu, gelu_new, relu, silu, tanh";

    /// The activation that transformers calls `name` (`ACT2FN` in `activations.py`), if it is supported.
    pub(crate) fn named(name: &str) -> Option<Activation> {
        Some(match name {
            "gelu" | "gelu_python" => Activation::GeluErf,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
                Activation::GeluTanh
            }
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            _ => return None,
        })
    }

    /// Adds `bias`, `[width]`, to every row of `x`, `[tokens, width]`, and applies the activation, in place.
    pub(crate) fn add_bias_and_apply(self, x: &mut Tensor, bias: Option<&Tensor>) -> Result<(), TchError> {
        // A row of zeros is a few kilobytes; reading it costs nothing beside the matrix product before.
        let zeros = || Cow::Owned(vec![0.0; x.size().last().copied().unwrap_or(0) as usize]);
        let row = match bias {
            Some(bias) => memory::floats(bias).map(Cow::Borrowed),
            None => Some(zeros()),
        };
        if self == Activation::GeluErf
            && let (Some(x), Some(row)) = (memory::floats_mut(x), row)
        {
            add_bias_and_gelu(x, &row);
            return Ok(());
        }
        if let Some(bias) = bias {
            drop(x.f_add_(bias)?);
        }
        let applied = match self {
            Activation::GeluErf => x.f_gelu_("none"),
            Activation::GeluTanh => x.f_gelu_("tanh"),
            Activation::Relu => x.f_relu_(),
            Activation::Silu => x.f_silu_(),
            Activation::Tanh => x.f_tanh_(),
        };
        applied.map(drop)
    }
}

//! The layers that families are made of, and the buffers that their results go to.
//!
//! Results of the wide layers are tens of megabytes; fresh memory for each costs page faults that take a tenth of the
//! time. A [`Buffer`] is kept from batch to batch instead and only ever grows, up to the largest batch.

use std::borrow::Cow;

use tch::{Kind, TchError, Tensor};

use super::memory;
use super::names::Names;
use super::simd::gelu::add_bias_and_gelu;
use super::weights::Weights;
use crate::model::LoadError;

/// Room for `[tokens, width]` that is used again for each batch.
pub struct Buffer {
    tensor: Tensor,
    width: i64,
}

impl Buffer {
    /// For numbers of the type of `like`, and where it is.
    pub fn new(width: i64, like: &Tensor) -> Result<Buffer, TchError> {
        Ok(Buffer { tensor: Tensor::f_empty([0, width], (like.kind(), like.device()))?, width })
    }

    /// The first `tokens` rows, with whatever an earlier use left in them. `[tokens, width]`
    pub fn rows(&mut self, tokens: i64) -> Result<Tensor, TchError> {
        if self.tensor.size()[0] < tokens {
            // Freed before the larger one is made: on a GPU both may not fit.
            let options = (self.tensor.kind(), self.tensor.device());
            self.tensor = Tensor::f_empty([0, self.width], options)?;
            self.tensor = Tensor::f_empty([tokens, self.width], options)?;
        }
        self.tensor.f_narrow(0, 0, tokens)
    }

    /// Empty room of the same width and on the same device.
    pub fn another(&self) -> Result<Buffer, TchError> {
        Buffer::new(self.width, &self.tensor)
    }
}

/// x Wᵀ + b, or without b.
pub struct Linear {
    /// A view of the checkpoint's `[out, in]`. `[in, out]`
    weight: Tensor,
    /// `[out]`
    bias: Option<Tensor>,
}

/// The width that a linear layer takes and the one that it gives.
pub type Widths = (i64, i64);

impl Linear {
    pub fn load(
        names: &Names,
        (width_in, width_out): Widths,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        Linear::fused(&[(names.clone(), width_out)], width_in, bias, weights)
    }

    /// Several layers on the same input as one, with their outputs side by side. Each part has its own width.
    pub fn fused(
        parts: &[(Names, i64)],
        width_in: i64,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Linear, LoadError> {
        let mut matrices = Vec::new();
        let mut biases = Vec::new();
        for (names, width_out) in parts {
            matrices.push(weights.take(names.at("weight").as_slice(), &[*width_out, width_in])?);
            if bias {
                biases.push(weights.take(names.at("bias").as_slice(), &[*width_out])?);
            }
        }
        let joined = || {
            let bias = if bias { Some(Tensor::f_cat(&biases, 0)?) } else { None };
            Ok(Linear { weight: Tensor::f_cat(&matrices, 0)?.f_transpose(0, 1)?, bias })
        };
        joined().map_err(|error| weights.failed(&error))
    }

    /// Two layers that the checkpoint has in one matrix, `[2 * out, in]`, without bias or with one.
    pub fn halves(
        names: &Names,
        (width_in, width_out): Widths,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<[Linear; 2], LoadError> {
        let both = Linear::load(names, (width_in, 2 * width_out), bias, weights)?;
        let half = |start| -> Result<Linear, TchError> {
            let bias = both.bias.as_ref().map(|bias| bias.f_narrow(0, start, width_out)).transpose()?;
            Ok(Linear { weight: both.weight.f_narrow(1, start, width_out)?, bias })
        };
        let halves = || Ok([half(0)?, half(width_out)?]);
        halves().map_err(|error| weights.failed(&error))
    }

    /// The same layer, for another thread: the weights are shared.
    pub fn share(&self) -> Linear {
        Linear { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// x Wᵀ into `out`, `[tokens, out]`. The [`bias`](Linear::bias) is left to what comes next, which reads every number
    /// anyhow. Handed to the product, libtorch would first copy it to every row and then read it back.
    pub fn product(&self, x: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
        x.f_mm_out(out, &self.weight).map(drop)
    }

    /// `[out]`
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Adds the result to `sum`, `[tokens, out]`, in place: the residual costs no pass of its own.
    pub fn add_to(&self, x: &Tensor, sum: &mut Tensor) -> Result<(), TchError> {
        if let Some(bias) = &self.bias {
            drop(sum.f_add_(bias)?);
        }
        sum.f_addmm_(x, &self.weight).map(drop)
    }

    /// The result by itself. `[tokens, out]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.bias {
            Some(bias) => bias.f_addmm(x, &self.weight),
            None => x.f_mm(&self.weight),
        }
    }
}

/// What a vector is divided by before it is scaled by the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Division {
    /// Its standard deviation, once the mean is taken away: LayerNorm (Ba et al. 2016).
    Deviation,
    /// Its root mean square: RMSNorm (Zhang & Sennrich 2019).
    RootMeanSquare,
}

/// A normalisation over the last axis.
pub struct Norm {
    /// `[width]`
    weight: Tensor,
    /// `[width]`
    bias: Option<Tensor>,
    width: i64,
    eps: f64,
    division: Division,
}

impl Norm {
    /// LayerNorm; some families leave its bias out.
    pub fn layer(names: &Names, width: i64, eps: f64, bias: bool, weights: &mut Weights) -> Result<Norm, LoadError> {
        // Checkpoints from TensorFlow's time call them gamma and beta.
        let weight = weights.take(names.either(&["weight", "gamma"]).as_slice(), &[width])?;
        let bias = if bias { Some(weights.take(names.either(&["bias", "beta"]).as_slice(), &[width])?) } else { None };
        Ok(Norm { weight, bias, width, eps, division: Division::Deviation })
    }

    /// RMSNorm, which has no bias.
    pub fn rms(names: &Names, width: i64, eps: f64, weights: &mut Weights) -> Result<Norm, LoadError> {
        let weight = weights.take(names.at("weight").as_slice(), &[width])?;
        Ok(Norm { weight, bias: None, width, eps, division: Division::RootMeanSquare })
    }

    /// The same with 1 added to every weight, as families do whose checkpoints hold the distance from 1.
    pub fn plus_one(mut self) -> Result<Norm, TchError> {
        drop(self.weight.f_add_scalar_(1.0)?);
        Ok(self)
    }

    /// The same norm, for another thread: the weights are shared.
    pub fn share(&self) -> Norm {
        Norm { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone), ..*self }
    }

    /// `[…, width]`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self.division {
            Division::Deviation => {
                x.f_layer_norm([self.width], Some(&self.weight), self.bias.as_ref(), self.eps, false)
            }
            Division::RootMeanSquare => x.f_rms_norm([self.width], Some(&self.weight), self.eps),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    GeluErf,
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl Activation {
    /// The names that an error offers.
    pub const KNOWN: &str = "gelu, gelu_new, relu, silu, tanh";

    /// By transformers' names; `None` for one that is not known.
    pub fn named(name: &str) -> Option<Activation> {
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

    /// Adds `bias` to every row of `x`, `[tokens, width]`, and applies itself, in place.
    pub fn add_bias_and_apply(self, x: &mut Tensor, bias: Option<&Tensor>) -> Result<(), TchError> {
        // A row of zeros is a few kilobytes, and reading it costs nothing beside the product before.
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

/// The layers' vectors summed up by weights, while a model goes through them.
pub struct Mix<'a> {
    /// Of what comes before the first layer, then of each layer's vectors; none where only the last layer's count.
    weights: Option<&'a [f64]>,
    /// `[tokens, hidden]`, in single precision
    sum: Option<Tensor>,
}

impl<'a> Mix<'a> {
    pub fn new(weights: Option<&'a [f64]>) -> Mix<'a> {
        Mix { weights, sum: None }
    }

    /// Adds what layer `layer` is given, before it is written over. `[tokens, hidden]`
    pub fn add(&mut self, layer: usize, flat: &Tensor) -> Result<(), TchError> {
        let weight = self.weights.and_then(|weights| weights.get(layer)).copied().unwrap_or(0.0);
        if weight == 0.0 {
            return Ok(());
        }
        let part = flat.f_to_kind(Kind::Float)?.f_mul_scalar(weight)?;
        self.sum = Some(match self.sum.take() {
            None => part,
            Some(mut sum) => sum.f_add_(&part)?,
        });
        Ok(())
    }

    /// The sum, of which these are the last vectors, after the model's last norm; or these alone.
    pub fn finish(mut self, last: Tensor) -> Result<Tensor, TchError> {
        let Some(weights) = self.weights else { return Ok(last) };
        self.add(weights.len() - 1, &last)?;
        self.sum.map_or_else(|| last.f_zeros_like(), Ok)
    }
}

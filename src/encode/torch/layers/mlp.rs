//! The feed-forward half of a transformer layer.

use tch::{TchError, Tensor};

use super::activation::Activation;
use super::linear::Linear;
use super::workspace::BatchBuffers;
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::LoadError;

/// down(activation(up(x))), or with a gate down(activation(gate(x)) * up(x)) (Shazeer 2020).
pub(crate) struct Mlp {
    pub gate_proj: Option<Linear>,
    pub up_proj: Linear,
    /// Applied to the gate's output, or without a gate to the output of `up_proj`.
    pub activation: Activation,
    pub down_proj: Linear,
}

impl Mlp {
    /// Without a gate, from the names of the two layers.
    pub(crate) fn load_plain(
        up_names: &TensorNames,
        down_names: &TensorNames,
        hidden: i64,
        intermediate: i64,
        activation: Activation,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Mlp, LoadError> {
        Ok(Mlp {
            gate_proj: None,
            up_proj: Linear::load(up_names, hidden, intermediate, bias, weights)?,
            activation,
            down_proj: Linear::load(down_names, intermediate, hidden, bias, weights)?,
        })
    }

    /// With a gate, by the names that most families have for the three layers.
    pub(crate) fn load_gated(
        names: &TensorNames,
        hidden: i64,
        intermediate: i64,
        activation: Activation,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Mlp, LoadError> {
        Ok(Mlp {
            gate_proj: Some(Linear::load(&names.at("gate_proj"), hidden, intermediate, bias, weights)?),
            up_proj: Linear::load(&names.at("up_proj"), hidden, intermediate, bias, weights)?,
            activation,
            down_proj: Linear::load(&names.at("down_proj"), intermediate, hidden, bias, weights)?,
        })
    }

    /// Computes the input of `down_proj` into `buffers.intermediate`. `[tokens, hidden]` → `[tokens, intermediate]`
    pub(crate) fn compute_intermediate(&self, x: &Tensor, buffers: &mut BatchBuffers) -> Result<(), TchError> {
        let activated = self.gate_proj.as_ref().unwrap_or(&self.up_proj);
        activated.multiply_into(x, &mut buffers.intermediate)?;
        self.activation.add_bias_and_apply(&mut buffers.intermediate, activated.bias())?;
        if self.gate_proj.is_some() {
            self.up_proj.multiply_into(x, &mut buffers.gated_up)?;
            if let Some(bias) = self.up_proj.bias() {
                drop(buffers.gated_up.f_add_(bias)?);
            }
            drop(buffers.intermediate.f_mul_(&buffers.gated_up)?);
        }
        Ok(())
    }

    /// The same MLP for another worker: the weights are shared.
    pub(crate) fn share(&self) -> Mlp {
        Mlp {
            gate_proj: self.gate_proj.as_ref().map(Linear::share),
            up_proj: self.up_proj.share(),
            activation: self.activation,
            down_proj: self.down_proj.share(),
        }
    }
}

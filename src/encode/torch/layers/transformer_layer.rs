//! One layer of a transformer: attention, then an MLP, each added to its input (He et al. 2016, Vaswani et al. 2017).
//!
//! Families differ in where the norms are, in whether the MLP has a gate, and in the attention that they hand in. Both
//! halves compute `x = post(x + output(half(pre(x))))`, without the norms that the family does not have: BERT has `post`,
//! T5 and the decoders have `pre`, Gemma has `pre` and `output`.

use tch::{TchError, Tensor};

use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::Norm;
use super::workspace::BatchBuffers;
use crate::encode::torch::attention::Attention;
use crate::encode::torch::attention::heads::Heads;
use crate::encode::torch::packed_batch::PackedBatch;

/// A layer's weights.
pub(crate) struct TransformerLayer {
    /// Queries, keys and values side by side.
    pub qkv_proj: Linear,
    pub head_norms: Option<HeadNorms>,
    /// The output projection of the attention.
    pub out_proj: Linear,
    pub attention_norms: HalfNorms,
    pub mlp: Mlp,
    pub mlp_norms: HalfNorms,
}

/// The norms around one half of a layer, where the family has them.
#[derive(Default)]
pub(crate) struct HalfNorms {
    /// Of what comes in.
    pub pre: Option<Norm>,
    /// Of what the half computes, before the residual is added.
    pub output: Option<Norm>,
    /// Of the sum.
    pub post: Option<Norm>,
}

impl TransformerLayer {
    /// The output of layer number `index`, of which `hidden_states` is the input; the input is overwritten.
    /// `[tokens, hidden]` → `[tokens, hidden]`
    pub(crate) fn forward(
        &self,
        index: usize,
        mut hidden_states: Tensor,
        attention: &dyn Attention,
        batch: &PackedBatch,
        buffers: &mut BatchBuffers,
    ) -> Result<Tensor, TchError> {
        let input = self.attention_norms.normalize_input(&hidden_states)?;
        self.qkv_proj.multiply_into(input.as_ref().unwrap_or(&hidden_states), &mut buffers.qkv)?;
        let mut bias = self.qkv_proj.bias();
        if let Some(norms) = &self.head_norms {
            norms.apply(&mut buffers.qkv, bias.take())?;
        }
        attention.attend(index, &mut buffers.qkv, bias, batch, &mut buffers.attention)?;
        hidden_states = self.attention_norms.add_residual(hidden_states, &self.out_proj, &buffers.attention)?;

        let input = self.mlp_norms.normalize_input(&hidden_states)?;
        self.mlp.compute_intermediate(input.as_ref().unwrap_or(&hidden_states), buffers)?;
        self.mlp_norms.add_residual(hidden_states, &self.mlp.down_proj, &buffers.intermediate)
    }

    /// The same layer for another worker: the weights are shared.
    pub(crate) fn share(&self) -> TransformerLayer {
        TransformerLayer {
            qkv_proj: self.qkv_proj.share(),
            head_norms: self.head_norms.as_ref().map(HeadNorms::share),
            out_proj: self.out_proj.share(),
            attention_norms: self.attention_norms.share(),
            mlp: self.mlp.share(),
            mlp_norms: self.mlp_norms.share(),
        }
    }
}

impl HalfNorms {
    /// Only a norm of the sum.
    pub(crate) fn post(norm: Norm) -> HalfNorms {
        HalfNorms { post: Some(norm), ..HalfNorms::default() }
    }

    /// Only a norm of the input.
    pub(crate) fn pre(norm: Norm) -> HalfNorms {
        HalfNorms { pre: Some(norm), ..HalfNorms::default() }
    }

    fn normalize_input(&self, hidden_states: &Tensor) -> Result<Option<Tensor>, TchError> {
        self.pre.as_ref().map(|norm| norm.forward(hidden_states)).transpose()
    }

    /// post(residual + output(linear(x)))
    fn add_residual(&self, mut residual: Tensor, linear: &Linear, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.output {
            None => linear.add_to(x, &mut residual)?,
            Some(norm) => drop(residual.f_add_(&norm.forward(&linear.forward(x)?)?)?),
        }
        match &self.post {
            None => Ok(residual),
            Some(norm) => norm.forward(&residual),
        }
    }

    fn share(&self) -> HalfNorms {
        let share = |norm: &Option<Norm>| norm.as_ref().map(Norm::share);
        HalfNorms { pre: share(&self.pre), output: share(&self.output), post: share(&self.post) }
    }
}

/// Norms over each head's query and key (Henry et al. 2020).
pub(crate) struct HeadNorms {
    pub heads: Heads,
    pub query: Norm,
    pub key: Norm,
}

impl HeadNorms {
    /// Adds `bias` to `qkv`, `[tokens, qkv_width]`, and normalises queries and keys in it.
    fn apply(&self, qkv: &mut Tensor, bias: Option<&Tensor>) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(qkv.f_add_(bias)?);
        }
        let Heads { query_heads, kv_heads, head_dim } = self.heads;
        for (norm, first, count) in [(&self.query, 0, query_heads), (&self.key, query_heads, kv_heads)] {
            // [tokens, count, head_dim]
            let mut part = qkv.f_narrow(1, first * head_dim, count * head_dim)?.f_view([-1, count, head_dim])?;
            part.f_copy_(&norm.forward(&part)?)?;
        }
        Ok(())
    }

    fn share(&self) -> HeadNorms {
        HeadNorms { heads: self.heads, query: self.query.share(), key: self.key.share() }
    }
}

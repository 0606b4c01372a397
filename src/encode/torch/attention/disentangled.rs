//! DeBERTa's disentangled attention (He et al. 2021, 2023): besides query · key ("content to content"), each query is compared
//! with an embedding of the relative position of each key ("content to position", c2p), and each key with one of the
//! relative position of each query ("position to content", p2c). transformers' `DisentangledSelfAttention`.

use tch::{Kind, TchError, Tensor};

use super::heads::Heads;
use super::{Attention, write_group_output};
use crate::encode::torch::packed_batch::{LengthGroup, PackedBatch};

/// How relative positions become rows of the relative position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// Rows for relative positions in one direction (`att_span`); the tables have twice as many.
    pub span: i64,
    /// `None`: one row for each relative position. Otherwise positions up to span / 2 have a row each, those further away
    /// share rows logarithmically, and from this distance on (`max_relative_positions`) all share the last row.
    pub max_log_distance: Option<i64>,
}

impl Buckets {
    /// The signed bucket of each relative position, query - key: transformers' `make_log_bucket_position` in single
    /// precision, in its order.
    fn bucket(self, relative: &Tensor) -> Result<Tensor, TchError> {
        let Some(max_distance) = self.max_log_distance else { return Ok(relative.shallow_clone()) };
        let mid = self.span / 2;
        let distance = relative.f_abs()?;
        let is_near = distance.f_lt(mid)?;
        let distance = distance.f_masked_fill(&is_near, mid - 1)?;
        let log_range =
            Tensor::f_from_slice(&[((max_distance - 1) as f64 / mid as f64) as f32])?.f_log()?.f_double_value(&[0])?;
        let far = distance.f_to_kind(Kind::Float)?.f_div_scalar(mid)?.f_log()?.f_div_scalar(log_range)?;
        let far = far.f_mul_scalar(mid - 1)?.f_ceil()?.f_add_scalar(mid)?;
        let far = far.f_mul(&relative.f_sign()?)?;
        let near = relative.f_to_kind(Kind::Float)?;
        near.f_where_self(&distance.f_le(mid)?, &far)?.f_to_kind(Kind::Int64)
    }
}

/// A layer's projected embeddings of relative positions; `None` for a comparison that the model leaves out.
pub(crate) struct RelativePositions {
    /// What queries are compared with (c2p; transformers' `pos_key_layer`). `[heads, head_dim, 2 * span]`
    pub keys: Option<Tensor>,
    /// What keys are compared with (p2c; transformers' `pos_query_layer`). `[heads, head_dim, 2 * span]`
    pub queries: Option<Tensor>,
}

/// Disentangled attention of all layers.
pub(crate) struct Disentangled {
    pub heads: Heads,
    pub buckets: Buckets,
    /// Scores are divided by √(head_dim * scale_factor).
    pub scale_factor: i64,
    pub layers: Vec<RelativePositions>,
    /// The row of each key's position relative to each query, for the longest sequence so far. `[query, key]`
    rows: Tensor,
}

impl Disentangled {
    /// `like` is a tensor on the device of the weights.
    pub(crate) fn new(
        heads: Heads,
        buckets: Buckets,
        scale_factor: i64,
        layers: Vec<RelativePositions>,
        like: &Tensor,
    ) -> Result<Disentangled, TchError> {
        let rows = Tensor::f_zeros([0, 0], (Kind::Int64, like.device()))?;
        Ok(Disentangled { heads, buckets, scale_factor, layers, rows })
    }

    /// What is added to the scaled scores; transformers' `disentangled_attention_bias`. `[rows, heads, query, key]`
    fn bias(
        &self,
        positions: &RelativePositions,
        query: &Tensor,
        key: &Tensor,
        group: LengthGroup,
    ) -> Result<Option<Tensor>, TchError> {
        let length = group.length;
        let rows = self.rows.f_narrow(0, 0, length)?.f_narrow(1, 0, length)?;
        let rows = rows.f_expand([group.rows, self.heads.query_heads, length, length], false)?;
        let content_to_position = match &positions.keys {
            // [rows, heads, query, 2 * span] → [rows, heads, query, key]
            Some(keys) => Some(query.f_matmul(keys)?.f_gather(-1, &rows, false)?),
            None => None,
        };
        // A key has the row of the query's position relative to it: the same rows with the axes exchanged.
        let position_to_content = match &positions.queries {
            Some(queries) => {
                let scores = key.f_matmul(queries)?; // [rows, heads, key, 2 * span]
                Some(scores.f_gather(-1, &rows.f_transpose(2, 3)?, false)?.f_transpose(2, 3)?)
            }
            None => None,
        };
        let sum = match (content_to_position, position_to_content) {
            (Some(c2p), Some(p2c)) => c2p.f_add(&p2c)?,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(None),
        };
        Ok(Some(sum.f_div_scalar(self.divisor())?.f_contiguous()?))
    }

    fn divisor(&self) -> f64 {
        ((self.heads.head_dim * self.scale_factor) as f64).sqrt()
    }
}

impl Attention for Disentangled {
    fn prepare(&mut self, batch: &PackedBatch) -> Result<(), TchError> {
        let longest = batch.longest();
        if self.rows.size()[0] < longest {
            let position = Tensor::f_arange(longest, (Kind::Int64, self.rows.device()))?;
            let relative = position.f_unsqueeze(1)?.f_sub(&position.f_unsqueeze(0)?)?; // query - key. [query, key]
            let rows = self.buckets.bucket(&relative)?.f_add_scalar(self.buckets.span)?;
            self.rows = rows.f_clamp(0, 2 * self.buckets.span - 1)?;
        }
        Ok(())
    }

    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &PackedBatch,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(qkv.f_add_(bias)?);
        }
        for &group in &batch.groups {
            // [rows, heads, length, head_dim]
            let [query, key, value] = self.heads.split(qkv, group)?;
            let position_bias = self.bias(&self.layers[layer], &query, &key, group)?;
            let scale = 1.0 / self.divisor();
            let output = Tensor::f_scaled_dot_product_attention(
                &query,
                &key,
                &value,
                position_bias.as_ref(),
                0.0,
                false,
                Some(scale),
                false,
            )?;
            write_group_output(&output, batch, group, self.heads, out)?;
        }
        Ok(())
    }

    fn share(&self) -> Box<dyn Attention> {
        let clone = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        let share =
            |layer: &RelativePositions| RelativePositions { keys: clone(&layer.keys), queries: clone(&layer.queries) };
        Box::new(Disentangled {
            heads: self.heads,
            buckets: self.buckets,
            scale_factor: self.scale_factor,
            layers: self.layers.iter().map(share).collect(),
            rows: self.rows.shallow_clone(),
        })
    }
}

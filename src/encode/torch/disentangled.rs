//! Disentangled attention (He et al. 2021, 2023): besides q kᵀ, each query is compared with a vector for the distance to each
//! key, and each key with one for the distance from each query. transformers' `DisentangledSelfAttention`.

use tch::{Kind, TchError, Tensor};

use super::attention::{Attention, put_back};
use super::heads::Heads;
use super::packed::{Group, Packed};

/// How distances become rows of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Rows for distances in one direction; the tables have twice as many.
    pub rows: i64,
    /// Where distances share rows the further they are: up to half of `rows` one each, the rest up to this distance.
    pub logarithmic_to: Option<i64>,
}

impl Span {
    /// The signed row of each distance, as `make_log_bucket_position` in single precision.
    fn bucket(self, distance: &Tensor) -> Result<Tensor, TchError> {
        let Some(most) = self.logarithmic_to else { return Ok(distance.shallow_clone()) };
        let mid = self.rows / 2;
        let size = distance.f_abs()?;
        let is_near = size.f_lt(mid)?;
        let size = size.f_masked_fill(&is_near, mid - 1)?;
        let steps = Tensor::f_from_slice(&[((most - 1) as f64 / mid as f64) as f32])?.f_log()?.f_double_value(&[0])?;
        let far = size.f_to_kind(Kind::Float)?.f_div_scalar(mid)?.f_log()?.f_div_scalar(steps)?;
        let far = far.f_mul_scalar(mid - 1)?.f_ceil()?.f_add_scalar(mid)?;
        let far = far.f_mul(&distance.f_sign()?)?;
        let near = distance.f_to_kind(Kind::Float)?;
        near.f_where_self(&size.f_le(mid)?, &far)?.f_to_kind(Kind::Int64)
    }
}

/// A layer's vectors for distances; a comparison that the model leaves out has none.
pub struct Sides {
    /// What queries are compared with. `[heads, dim, 2 * span]`
    pub keys: Option<Tensor>,
    /// What keys are compared with. `[heads, dim, 2 * span]`
    pub queries: Option<Tensor>,
}

pub struct Disentangled {
    pub heads: Heads,
    pub span: Span,
    /// Scores are divided by √(dim * terms).
    pub terms: i64,
    pub layers: Vec<Sides>,
    /// The row of each query's distance to each key in the batch's longest sequence. `[length, length]`
    pub rows: Tensor,
}

impl Disentangled {
    /// What is added to the scores. `[rows, heads, length, length]`
    fn added(&self, sides: &Sides, query: &Tensor, key: &Tensor, group: Group) -> Result<Option<Tensor>, TchError> {
        let length = group.length;
        let rows = self.rows.f_narrow(0, 0, length)?.f_narrow(1, 0, length)?;
        let rows = rows.f_expand([group.rows, self.heads.queries, length, length], false)?;
        let of_queries = match &sides.keys {
            Some(keys) => Some(query.f_matmul(keys)?.f_gather(-1, &rows, false)?),
            None => None,
        };
        // A key's row is that of the query's distance to it: the same table of rows, read the other way round.
        let of_keys = match &sides.queries {
            Some(queries) => {
                let scores = key.f_matmul(queries)?; // [rows, heads, key, 2 * span]
                Some(scores.f_gather(-1, &rows.f_transpose(2, 3)?, false)?.f_transpose(2, 3)?)
            }
            None => None,
        };
        let sum = match (of_queries, of_keys) {
            (Some(of_queries), Some(of_keys)) => of_queries.f_add(&of_keys)?,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(None),
        };
        Ok(Some(sum.f_div_scalar(self.divisor())?.f_contiguous()?))
    }

    fn divisor(&self) -> f64 {
        ((self.heads.dim * self.terms) as f64).sqrt()
    }
}

impl Attention for Disentangled {
    fn prepare(&mut self, batch: &Packed) -> Result<(), TchError> {
        let longest = batch.groups.first().map_or(0, |group| group.length);
        if self.rows.size()[0] < longest {
            let place = Tensor::f_arange(longest, (Kind::Int64, self.rows.device()))?;
            let distance = place.f_unsqueeze(1)?.f_sub(&place.f_unsqueeze(0)?)?; // query - key
            let rows = self.span.bucket(&distance)?.f_add_scalar(self.span.rows)?;
            self.rows = rows.f_clamp(0, 2 * self.span.rows - 1)?;
        }
        Ok(())
    }

    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &Packed,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(qkv.f_add_(bias)?);
        }
        for &group in &batch.groups {
            let [query, key, value] = self.heads.split(qkv, group)?;
            let added = self.added(&self.layers[layer], &query, &key, group)?;
            let scale = 1.0 / self.divisor();
            let mixed = Tensor::f_scaled_dot_product_attention(
                &query,
                &key,
                &value,
                added.as_ref(),
                0.0,
                false,
                Some(scale),
                false,
            )?;
            put_back(&mixed, batch, group, self.heads, out)?;
        }
        Ok(())
    }

    fn share(&self) -> Box<dyn Attention> {
        let clone = |side: &Option<Tensor>| side.as_ref().map(Tensor::shallow_clone);
        let sides = |sides: &Sides| Sides { keys: clone(&sides.keys), queries: clone(&sides.queries) };
        Box::new(Disentangled {
            heads: self.heads,
            span: self.span,
            terms: self.terms,
            layers: self.layers.iter().map(sides).collect(),
            rows: self.rows.shallow_clone(),
        })
    }
}

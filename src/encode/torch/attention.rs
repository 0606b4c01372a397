//! Attention over packed sequences. A family is handed one of these and does not know which.

use tch::{TchError, Tensor};

use super::memory;
use super::packed::{Group, Packed};
use super::simd::attention::{LENGTH_MAX, ShortAttention, supports};

/// Mixes each sequence's tokens; no token sees another sequence.
pub trait Attention: Send + Sync {
    /// `qkv` holds each token's query, key and value side by side, `[tokens, 3 * hidden]`, still without their bias,
    /// `[3 * hidden]`; what is left in it is undefined. The mixture of the values goes to `out`, `[tokens, hidden]`.
    fn attend(&self, qkv: &mut Tensor, bias: &Tensor, batch: &Packed, out: &mut Tensor) -> Result<(), TchError>;
}

/// Every token sees every token of its sequence: softmax(q kᵀ / √head_dim) v (Vaswani et al. 2017).
pub struct Plain {
    pub heads: usize,
    pub head_dim: usize,
}

impl Attention for Plain {
    fn attend(&self, qkv: &mut Tensor, bias: &Tensor, batch: &Packed, out: &mut Tensor) -> Result<(), TchError> {
        // Groups come longest first.
        let long = batch.groups.partition_point(|group| group.length > LENGTH_MAX as i64);
        let own = supports(self.head_dim) && memory::is_plain(qkv);
        let (theirs, ours) = batch.groups.split_at(if own { long } else { batch.groups.len() });
        for &group in theirs {
            self.long(qkv, bias, batch, group, out)?;
        }
        if let (Some(qkv), Some(bias), Some(out)) = (memory::floats(qkv), memory::floats(bias), memory::floats_mut(out))
        {
            ours.iter().for_each(|&group| self.short(qkv, bias, group, out));
        }
        Ok(())
    }
}

impl Plain {
    fn short(&self, qkv: &[f32], bias: &[f32], group: Group, out: &mut [f32]) {
        let hidden = self.heads * self.head_dim;
        let (start, tokens) = (group.start as usize, (group.rows * group.length) as usize);
        let attention = ShortAttention {
            heads: self.heads,
            head_dim: self.head_dim,
            length: group.length as usize,
            qkv: &qkv[start * 3 * hidden..][..tokens * 3 * hidden],
            bias,
            out: &mut out[start * hidden..][..tokens * hidden],
        };
        attention.run();
    }

    fn long(&self, qkv: &Tensor, bias: &Tensor, batch: &Packed, group: Group, out: &Tensor) -> Result<(), TchError> {
        let heads = self.heads as i64;
        // [rows, length, 3, heads, head_dim] → three of [rows, heads, length, head_dim], all views
        let parts = batch.view(qkv, group)?.f_add_(bias)?.f_view([group.rows, group.length, 3, heads, -1])?;
        let parts = parts.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let [query, key, value] = &parts[..] else {
            return Err(TchError::Shape("qkv has three parts".into()));
        };
        let mixed =
            Tensor::f_scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, false, None, false)?;
        // [rows, heads, length, head_dim] → [rows, length, heads, head_dim], which is how `out` lies
        let mut place = batch.view(out, group)?.f_view([group.rows, group.length, heads, -1])?;
        place.f_copy_(&mixed.f_transpose(1, 2)?).map(drop)
    }
}

//! Attention over packed sequences. A family is handed one of these and does not know which.

use tch::{TchError, Tensor};

use super::packed::Packed;

/// Mixes each sequence's tokens; no token sees another sequence.
pub trait Attention: Send + Sync {
    /// `qkv` holds each token's query, key and value side by side, `[tokens, 3 * hidden]`; the mixture of the values goes
    /// to `out`, `[tokens, hidden]`.
    fn attend(&self, qkv: &Tensor, batch: &Packed, out: &Tensor) -> Result<(), TchError>;
}

/// Every token sees every token of its sequence: softmax(q kᵀ / √head_dim) v (Vaswani et al. 2017).
pub struct Plain {
    pub heads: i64,
}

impl Attention for Plain {
    fn attend(&self, qkv: &Tensor, batch: &Packed, out: &Tensor) -> Result<(), TchError> {
        for &group in &batch.groups {
            // [rows, length, 3, heads, head_dim] → three of [rows, heads, length, head_dim], all views
            let parts = batch.view(qkv, group)?.f_view([group.rows, group.length, 3, self.heads, -1])?;
            let parts = parts.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
            let [query, key, value] = &parts[..] else {
                return Err(TchError::Shape("qkv has three parts".into()));
            };
            let mixed =
                Tensor::f_scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, false, None, false)?;
            // [rows, heads, length, head_dim] → [rows, length, heads, head_dim], which is how `out` lies
            let mut place = batch.view(out, group)?.f_view([group.rows, group.length, self.heads, -1])?;
            place.f_copy_(&mixed.f_transpose(1, 2)?)?;
        }
        Ok(())
    }
}

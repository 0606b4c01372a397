//! How a packed projection divides into heads of queries, keys and values.

use tch::{TchError, Tensor};

use crate::encode::torch::packed_batch::LengthGroup;

/// How many heads there are, and how wide one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    pub query_heads: i64,
    /// Heads of keys and of values. Each serves `query_heads / kv_heads` query heads (grouped-query attention, Ainslie et
    /// al. 2023), so their number divides that of the query heads.
    pub kv_heads: i64,
    pub head_dim: i64,
}

impl Heads {
    /// As many key-value heads as query heads.
    pub(crate) fn equal(heads: i64, head_dim: i64) -> Heads {
        Heads { query_heads: heads, kv_heads: heads, head_dim }
    }

    /// Width of all queries, keys and values of a token.
    pub(crate) fn qkv_width(self) -> i64 {
        (self.query_heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of all queries of a token, and of what attention returns for it.
    pub(crate) fn attention_width(self) -> i64 {
        self.query_heads * self.head_dim
    }

    /// Width of all keys of a token, and of all its values.
    pub(crate) fn kv_width(self) -> i64 {
        self.kv_heads * self.head_dim
    }

    /// A group's queries, keys and values as views of `qkv`, `[tokens, qkv_width]`. Three of `[rows, heads, length, head_dim]`
    pub(crate) fn split(self, qkv: &Tensor, group: LengthGroup) -> Result<[Tensor; 3], TchError> {
        let tokens = qkv.f_narrow(0, group.start, group.tokens())?;
        let part = |first: i64, heads: i64| {
            let part = tokens.f_narrow(1, first * self.head_dim, heads * self.head_dim)?;
            part.f_view([group.rows, group.length, heads, self.head_dim])?.f_transpose(1, 2)
        };
        let (query_heads, kv_heads) = (self.query_heads, self.kv_heads);
        Ok([part(0, query_heads)?, part(query_heads, kv_heads)?, part(query_heads + kv_heads, kv_heads)?])
    }

    /// Repeats each head of keys or values for the query heads that share it; transformers' `repeat_kv`.
    /// `[rows, kv_heads, length, head_dim]` → `[rows, query_heads, length, head_dim]`
    pub(crate) fn repeat_kv(self, part: &Tensor, group: LengthGroup) -> Result<Tensor, TchError> {
        if self.query_heads == self.kv_heads {
            return Ok(part.shallow_clone());
        }
        let times = self.query_heads / self.kv_heads;
        let expanded =
            part.f_unsqueeze(2)?.f_expand([group.rows, self.kv_heads, times, group.length, self.head_dim], false)?;
        expanded.f_reshape([group.rows, self.query_heads, group.length, self.head_dim])
    }
}

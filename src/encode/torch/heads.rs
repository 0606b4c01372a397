//! How a packed projection divides into heads of queries, keys and values.

use tch::{TchError, Tensor};

use super::packed::Group;

/// How many heads there are and how wide one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    pub queries: i64,
    /// Heads of keys, and of values; each serves as many of `queries`, which it divides (Ainslie et al. 2023).
    pub keys: i64,
    pub dim: i64,
}

impl Heads {
    /// As many keys as queries.
    pub fn equal(heads: i64, dim: i64) -> Heads {
        Heads { queries: heads, keys: heads, dim }
    }

    pub fn qkv_width(self) -> i64 {
        (self.queries + 2 * self.keys) * self.dim
    }

    pub fn mixed_width(self) -> i64 {
        self.queries * self.dim
    }

    /// A group's queries, keys and values, as views. Three of `[rows, heads, length, dim]`
    pub fn split(self, qkv: &Tensor, group: Group) -> Result<[Tensor; 3], TchError> {
        let tokens = qkv.f_narrow(0, group.start, group.rows * group.length)?;
        let part = |first: i64, heads: i64| {
            let part = tokens.f_narrow(1, first * self.dim, heads * self.dim)?;
            part.f_view([group.rows, group.length, heads, self.dim])?.f_transpose(1, 2)
        };
        let (queries, keys) = (self.queries, self.keys);
        Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
    }

    /// Each head of keys or values as often as it has queries. `[rows, keys, length, dim]` → `[rows, queries, length, dim]`
    pub fn repeat(self, part: &Tensor, group: Group) -> Result<Tensor, TchError> {
        if self.queries == self.keys {
            return Ok(part.shallow_clone());
        }
        let times = self.queries / self.keys;
        let wide = part.f_unsqueeze(2)?.f_expand([group.rows, self.keys, times, group.length, self.dim], false)?;
        wide.f_reshape([group.rows, self.queries, group.length, self.dim])
    }
}

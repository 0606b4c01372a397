//! Which tokens of its sequence a token sees: all of them, those before it, or those in a sliding window.

use std::ops::Range;

use tch::{Kind, TchError, Tensor};

/// A rule that hides some keys from a query by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionMask {
    /// Hides the tokens after the query.
    pub causal: bool,
    /// Hides the tokens that are further away than this many positions: a sliding window.
    pub max_distance: Option<i64>,
}

impl AttentionMask {
    /// Every token sees every token.
    pub(crate) const FULL: AttentionMask = AttentionMask { causal: false, max_distance: None };

    /// Whether the sliding window hides any token of a sequence of this length.
    pub(crate) fn is_windowed(self, length: i64) -> bool {
        self.max_distance.is_some_and(|max_distance| max_distance < length - 1)
    }

    /// Whether every token of a sequence of this length sees every token.
    pub(crate) fn is_full(self, length: i64) -> bool {
        (!self.causal || length == 1) && !self.is_windowed(length)
    }

    /// What is added to the scores: 0 where a query sees a key, -∞ where it does not. `[length, length]`
    pub(crate) fn tensor(self, length: i64, like: &Tensor) -> Result<Tensor, TchError> {
        self.tensor_between(0..length, 0..length, like)
    }

    /// The same between the queries and the keys at some positions. `[queries, keys]`
    pub(crate) fn tensor_between(
        self,
        queries: Range<i64>,
        keys: Range<i64>,
        like: &Tensor,
    ) -> Result<Tensor, TchError> {
        let device = like.device();
        let positions = |range: Range<i64>| Tensor::f_arange_start(range.start, range.end, (Kind::Int64, device));
        // key - query. [queries, keys]
        let relative = positions(keys)?.f_unsqueeze(0)?.f_sub(&positions(queries)?.f_unsqueeze(1)?)?;
        let mut hidden = relative.f_abs()?.f_gt(self.max_distance.unwrap_or(i64::MAX))?;
        if self.causal {
            hidden = hidden.f_logical_or(&relative.f_gt(0)?)?;
        }
        Tensor::f_zeros(relative.size(), (like.kind(), device))?.f_masked_fill(&hidden, f64::NEG_INFINITY)
    }
}

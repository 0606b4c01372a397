//! Token vectors in, one vector for each sequence out, as sentence-transformers' module Pooling does it
//! (`sentence_transformer/modules/pooling.py`, `_forward_padded`).
//!
//! Nothing is padded here, so the module's mask is 1 everywhere except for a prompt that is left out: the first
//! `prompt_tokens` tokens of every sequence. Of a sequence that is all prompt nothing is left. In sentence-transformers its
//! mean and its last token are then zeros, its first token is that of the whole sequence, and its maximum is minus
//! infinity; the same holds here.

use tch::{Kind, TchError, Tensor};

use super::packed_batch::PackedBatch;
use crate::model::PoolingMode;

/// `[tokens, hidden]` → `[rows, modes * hidden]`, rows in packed order, modes side by side in their order.
pub(super) fn pool(
    tokens: &Tensor,
    batch: &PackedBatch,
    modes: &[PoolingMode],
    prompt_tokens: usize,
) -> Result<Tensor, TchError> {
    let prompt_tokens = i64::try_from(prompt_tokens).unwrap_or(i64::MAX);
    let pooled = modes.iter().map(|mode| pool_mode(tokens, batch, *mode, prompt_tokens));
    let pooled = pooled.collect::<Result<Vec<_>, _>>()?;
    match pooled.as_slice() {
        [only] => Ok(only.shallow_clone()),
        several => Tensor::f_cat(several, 1),
    }
}

fn pool_mode(tokens: &Tensor, batch: &PackedBatch, mode: PoolingMode, prompt_tokens: i64) -> Result<Tensor, TchError> {
    let mut parts = Vec::with_capacity(batch.groups.len());
    for &group in &batch.groups {
        let all = batch.view(tokens, group)?; // [rows, length, hidden]
        let first = prompt_tokens.min(group.length);
        let pooled = match group.length - first {
            0 => pool_no_tokens(&all, mode)?,
            kept => pool_group(&all.f_narrow(1, first, kept)?, mode, first)?,
        };
        parts.push(pooled);
    }
    Tensor::f_cat(&parts, 0)
}

/// `[rows, kept, hidden]` → `[rows, hidden]`, where `first` tokens before the kept ones were left out.
fn pool_group(kept: &Tensor, mode: PoolingMode, first: i64) -> Result<Tensor, TchError> {
    let count = kept.size()[1];
    match mode {
        PoolingMode::Mean => kept.f_mean_dim(1, false, None),
        PoolingMode::MeanSqrtLenTokens => kept.f_sum_dim_intlist(1, false, None)?.f_div_scalar((count as f64).sqrt()),
        PoolingMode::Max => kept.f_amax(1, false),
        PoolingMode::Cls => kept.f_select(1, 0),
        PoolingMode::LastToken => kept.f_select(1, count - 1),
        PoolingMode::WeightedMean => {
            // A token's weight is its position in the whole sequence, counted from 1.
            let weights = Tensor::f_arange_start(first + 1, first + count + 1, (Kind::Float, kept.device()))?;
            let sum = weights.f_sum(None)?;
            kept.f_mul(&weights.f_view([1, count, 1])?)?.f_sum_dim_intlist(1, false, None)?.f_div(&sum)
        }
    }
}

/// Pools sequences that are all prompt. `[rows, length, hidden]` → `[rows, hidden]`
fn pool_no_tokens(all: &Tensor, mode: PoolingMode) -> Result<Tensor, TchError> {
    let first = all.f_select(1, 0)?;
    match mode {
        PoolingMode::Cls => Ok(first),
        PoolingMode::Max => first.f_full_like(f64::NEG_INFINITY),
        PoolingMode::Mean | PoolingMode::MeanSqrtLenTokens | PoolingMode::WeightedMean | PoolingMode::LastToken => {
            first.f_zeros_like()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenBatch;
    use PoolingMode::{Cls, LastToken, Max, Mean, MeanSqrtLenTokens, WeightedMean};

    /// Sequences of 2, 1 and 2 tokens; packed in the order 0, 2, 1.
    fn check(modes: &[PoolingMode], prompt_tokens: usize, expected: &[f32]) {
        let rows: [&[u32]; 3] = [&[0; 2], &[0; 1], &[0; 2]];
        let batch = PackedBatch::new(&rows.into_iter().collect::<TokenBatch>(), tch::Device::Cpu).expect("five tokens");
        let tokens = Tensor::from_slice(&[1f32, 9.0, 3.0, 5.0, -1.0, 0.0, -3.0, -2.0, 7.0, 0.5]).view([5, 2]);
        let pooled = pool(&tokens, &batch, modes, prompt_tokens).expect("shapes fit");
        let found = Vec::<f32>::try_from(pooled.flatten(0, 1)).expect("floats");
        let near = |a: f32, b: f32| a == b || (a - b).abs() < 1e-6;
        let all = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| near(*a, *b));
        assert!(all, "{modes:?} without {prompt_tokens}: {found:?}, expected {expected:?}");
    }

    #[test]
    fn each_mode_is_what_its_name_says() {
        check(&[Mean], 0, &[2.0, 7.0, -2.0, -1.0, 7.0, 0.5]);
        check(&[Max], 0, &[3.0, 9.0, -1.0, 0.0, 7.0, 0.5]);
        check(&[Cls], 0, &[1.0, 9.0, -1.0, 0.0, 7.0, 0.5]);
        check(&[LastToken], 0, &[3.0, 5.0, -3.0, -2.0, 7.0, 0.5]);
        let root = 2f32.sqrt();
        check(&[MeanSqrtLenTokens], 0, &[4.0 / root, 14.0 / root, -4.0 / root, -2.0 / root, 7.0, 0.5]);
        check(&[WeightedMean], 0, &[7.0 / 3.0, 19.0 / 3.0, -7.0 / 3.0, -4.0 / 3.0, 7.0, 0.5]);
        check(&[Cls, Max], 0, &[1.0, 9.0, 3.0, 9.0, -1.0, 0.0, -1.0, 0.0, 7.0, 0.5, 7.0, 0.5]);
    }

    #[test]
    fn a_prompt_is_left_out_and_of_a_sequence_that_is_all_prompt_nothing_is_left() {
        let minus_infinity = f32::NEG_INFINITY;
        for mode in [Mean, MeanSqrtLenTokens, WeightedMean, LastToken] {
            check(&[mode], 1, &[3.0, 5.0, -3.0, -2.0, 0.0, 0.0]);
            check(&[mode], 9, &[0.0; 6]);
        }
        check(&[Cls], 1, &[3.0, 5.0, -3.0, -2.0, 7.0, 0.5]);
        check(&[Cls], 2, &[1.0, 9.0, -1.0, 0.0, 7.0, 0.5]);
        check(&[Max], 1, &[3.0, 5.0, -3.0, -2.0, minus_infinity, minus_infinity]);
    }
}

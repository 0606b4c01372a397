//! softmax(q kᵀ · scale + bias) v, scaled dot-product attention (Vaswani et al. 2017), over packed sequences.
//!
//! Short sequences that see all of themselves go through the loops of [`simd::attention`](crate::encode::torch::simd), all
//! others through libtorch; long sequences with a sliding window go through libtorch in blocks of queries.

use tch::{TchError, Tensor};

use super::heads::Heads;
use super::mask::AttentionMask;
use super::relative_bias::RelativeBias;
use super::{Attention, write_group_output};
use crate::encode::torch::memory;
use crate::encode::torch::packed_batch::{LengthGroup, PackedBatch};
use crate::encode::torch::rotary::Rotary;
use crate::encode::torch::simd::attention::{LENGTH_MAX, ShortAttention, supports};

/// Sequences of up to this many tokens are computed with a mask of their whole length, which then takes 64 MiB at most. They
/// also keep the vectors that they had before there were blocks, to the bit.
const WHOLE_MASK_TOKENS_MAX: i64 = 4_096;
/// Queries of a block: many enough for an efficient matrix product, few enough that the block's keys are not many more
/// than those that its queries see.
const BLOCK_QUERIES: i64 = 512;

/// Scaled dot-product attention with what families add to it.
pub(crate) struct DotProduct {
    heads: Heads,
    /// What q kᵀ is multiplied by; `None` is 1 / √head_dim.
    scale: Option<f64>,
    rotary: Option<Rotary>,
    mask: AttentionMask,
    relative_bias: Option<RelativeBias>,
    /// Added to the scores of the batch's longest sequences. Shorter ones take its upper left corner, since both the mask
    /// and the bias depend on relative positions alone. `None` where nothing is added. `[1 or heads, length, length]`
    added: Option<Tensor>,
    /// A tensor on the device of the weights.
    like: Tensor,
}

impl DotProduct {
    /// Every token sees every token and nothing is added to the scores. `like` is a tensor on the device of the weights.
    pub(crate) fn plain(heads: Heads, like: &Tensor) -> DotProduct {
        DotProduct {
            heads,
            scale: None,
            rotary: None,
            mask: AttentionMask::FULL,
            relative_bias: None,
            added: None,
            like: like.shallow_clone(),
        }
    }

    /// Rotates queries and keys by their positions.
    pub(crate) fn with_rotary(self, rotary: Rotary) -> DotProduct {
        DotProduct { rotary: Some(rotary), ..self }
    }

    /// Hides some tokens from others.
    pub(crate) fn with_mask(self, mask: AttentionMask) -> DotProduct {
        DotProduct { mask, ..self }
    }

    /// Multiplies q kᵀ by this instead of 1 / √head_dim.
    pub(crate) fn with_scale(self, scale: f64) -> DotProduct {
        DotProduct { scale: Some(scale), ..self }
    }

    /// Adds a relative bias to the scores. The mask must be full: no family has both.
    pub(crate) fn with_relative_bias(self, relative_bias: RelativeBias) -> DotProduct {
        DotProduct { relative_bias: Some(relative_bias), ..self }
    }

    /// The same attention for another worker on the same device.
    pub(crate) fn new_like(&self) -> DotProduct {
        DotProduct {
            heads: self.heads,
            scale: self.scale,
            rotary: self.rotary.as_ref().map(Rotary::share),
            mask: self.mask,
            relative_bias: self.relative_bias.as_ref().map(RelativeBias::share),
            added: None,
            like: self.like.shallow_clone(),
        }
    }

    /// One group through the loops for short sequences. `qkv` is `[tokens, qkv_width]`, `out` `[tokens, attention_width]`.
    fn attend_short(&self, qkv: &[f32], bias: &[f32], group: LengthGroup, out: &mut [f32]) {
        let (qkv_width, width) = (self.heads.qkv_width() as usize, self.heads.attention_width() as usize);
        let (start, tokens) = (group.start as usize, group.tokens() as usize);
        let attention = ShortAttention {
            heads: self.heads.query_heads as usize,
            head_dim: self.heads.head_dim as usize,
            length: group.length as usize,
            qkv: &qkv[start * qkv_width..][..tokens * qkv_width],
            bias,
            out: &mut out[start * width..][..tokens * width],
        };
        attention.run();
    }

    /// One group through libtorch.
    fn attend_by_libtorch(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        batch: &PackedBatch,
        group: LengthGroup,
        out: &Tensor,
    ) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(batch.view(qkv, group)?.f_add_(bias)?);
        }
        // [rows, heads, length, head_dim]
        let [query, key, value] = self.heads.split(qkv, group)?;
        let (key, value) = (self.heads.repeat_kv(&key, group)?, self.heads.repeat_kv(&value, group)?);
        let length = group.length;
        if let Some(max_distance) = self.mask.max_distance.filter(|_| self.is_in_blocks(length)) {
            let output = self.attend_in_blocks(&query, &key, &value, max_distance, BLOCK_QUERIES)?;
            return write_group_output(&output, batch, group, self.heads, out);
        }
        let is_added = self.relative_bias.is_some() || self.mask.is_windowed(length);
        // [1, 1 or heads, length, length]
        let added = match &self.added {
            Some(added) if is_added => Some(added.f_narrow(1, 0, length)?.f_narrow(2, 0, length)?.f_unsqueeze(0)?),
            _ => None,
        };
        let causal = self.mask.causal && added.is_none();
        let output = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            added.as_ref(),
            0.0,
            causal,
            self.scale,
            false,
        )?;
        write_group_output(&output, batch, group, self.heads, out)
    }

    /// Whether sequences of this length are so much longer than the sliding window that most of a whole mask would be -∞.
    fn is_in_blocks(&self, length: i64) -> bool {
        length > WHOLE_MASK_TOKENS_MAX && self.mask.max_distance.is_some_and(|max_distance| 4 * max_distance <= length)
    }

    /// Attention with a sliding window by blocks of `block` queries, each with the keys that any of its queries sees: time
    /// and memory grow with the length, not with its square. Takes and returns `[rows, heads, length, head_dim]`.
    fn attend_in_blocks(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        max_distance: i64,
        block: i64,
    ) -> Result<Tensor, TchError> {
        let length = query.size()[2];
        let mut outputs = Vec::new();
        for first in (0..length).step_by(block as usize) {
            let end = (first + block).min(length);
            let keys_first = (first - max_distance).max(0);
            let keys_end = if self.mask.causal { end } else { (end + max_distance).min(length) };
            let mask = self.mask.tensor_between(first..end, keys_first..keys_end, &self.like)?;
            outputs.push(Tensor::f_scaled_dot_product_attention(
                &query.f_narrow(2, first, end - first)?,
                &key.f_narrow(2, keys_first, keys_end - keys_first)?,
                &value.f_narrow(2, keys_first, keys_end - keys_first)?,
                Some(&mask),
                0.0,
                false,
                self.scale,
                false,
            )?);
        }
        Tensor::f_cat(&outputs, 2)
    }

    /// Whether this is the plain attention that [`ShortAttention`] computes, but for masks and rotary embeddings.
    fn is_plain(&self) -> bool {
        supports(self.heads.head_dim as usize)
            && self.heads.query_heads == self.heads.kv_heads
            && self.scale.is_none()
            && self.relative_bias.is_none()
    }
}

impl Attention for DotProduct {
    fn prepare(&mut self, batch: &PackedBatch) -> Result<(), TchError> {
        let longest = batch.longest();
        if let Some(rotary) = &mut self.rotary {
            rotary.prepare(longest)?;
        }
        self.added = match &self.relative_bias {
            Some(relative_bias) => Some(relative_bias.tensor(longest)?),
            // Sequences that go by blocks need no mask of their length, but shorter ones in the same batch may need one.
            None if self.mask.is_windowed(longest) => {
                let whole = batch.groups.iter().map(|group| group.length).find(|&length| !self.is_in_blocks(length));
                let mask = whole.map(|length| self.mask.tensor(length, &self.like)?.f_unsqueeze(0));
                mask.transpose()?
            }
            None => None,
        };
        Ok(())
    }

    fn attend(
        &self,
        _layer: usize,
        qkv: &mut Tensor,
        mut bias: Option<&Tensor>,
        batch: &PackedBatch,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        if let Some(rotary) = &self.rotary {
            if let Some(bias) = bias.take() {
                drop(qkv.f_add_(bias)?);
            }
            rotary.apply_rotary(qkv, self.heads, batch)?;
        }
        // Groups come longest first, so the groups that are short enough for the loops are the last ones.
        let is_short = |group: &LengthGroup| group.length <= LENGTH_MAX as i64 && self.mask.is_full(group.length);
        let loops_apply = self.is_plain() && memory::is_plain(qkv) && bias.is_none_or(memory::is_plain);
        let by_libtorch =
            if loops_apply { batch.groups.partition_point(|group| !is_short(group)) } else { batch.groups.len() };
        let (by_libtorch, by_loops) = batch.groups.split_at(by_libtorch);
        for &group in by_libtorch {
            self.attend_by_libtorch(qkv, bias, batch, group, out)?;
        }
        let zeros = || vec![0.0; if by_loops.is_empty() { 0 } else { self.heads.qkv_width() as usize }];
        let no_bias = if bias.is_none() { zeros() } else { Vec::new() };
        let bias = bias.map_or(Some(no_bias.as_slice()), memory::floats);
        if let (Some(qkv), Some(bias), Some(out)) = (memory::floats(qkv), bias, memory::floats_mut(out)) {
            by_loops.iter().for_each(|&group| self.attend_short(qkv, bias, group, out));
        }
        Ok(())
    }

    fn share(&self) -> Box<dyn Attention> {
        Box::new(self.new_like())
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::batch::TokenBatch;

    fn random(shape: &[i64]) -> Tensor {
        Tensor::rand(shape, (Kind::Float, tch::Device::Cpu)) * 4.0 - 2.0
    }

    /// The definition, over one sequence. `[length, queries * dim]`
    fn expected(qkv: &Tensor, heads: Heads, mask: AttentionMask) -> Tensor {
        let length = qkv.size()[0];
        let part = |first: i64, count: i64| {
            qkv.narrow(1, first * heads.head_dim, count * heads.head_dim).view([length, count, -1])
        };
        let (query, key) = (part(0, heads.query_heads), part(heads.query_heads, heads.kv_heads));
        let value = part(heads.query_heads + heads.kv_heads, heads.kv_heads);
        let outputs = (0..heads.query_heads).map(|head| {
            let shared = head / (heads.query_heads / heads.kv_heads);
            let mut scores = query.select(1, head).matmul(&key.select(1, shared).tr()) / (heads.head_dim as f64).sqrt();
            for (row, column) in (0..length).flat_map(|row| (0..length).map(move |column| (row, column))) {
                let far = mask.max_distance.is_some_and(|max_distance| (row - column).abs() > max_distance);
                if far || (mask.causal && column > row) {
                    drop(scores.get(row).get(column).fill_(f64::NEG_INFINITY));
                }
            }
            scores = scores.softmax(-1, Kind::Float);
            scores.matmul(&value.select(1, shared))
        });
        Tensor::stack(&outputs.collect::<Vec<_>>(), 1).flatten(1, 2)
    }

    #[test]
    fn blocks_of_queries_give_what_a_whole_mask_gives() {
        let heads = Heads::equal(2, 8);
        for length in [5, 16, 23] {
            for (causal, max_distance) in [(false, 0), (false, 3), (true, 3), (true, 7), (false, 30)] {
                let mask = AttentionMask { causal, max_distance: Some(max_distance) };
                let [query, key, value] = [(); 3].map(|()| random(&[2, 2, length, 8]));
                let attention = DotProduct::plain(heads, &query).with_mask(mask);
                let blocks = attention.attend_in_blocks(&query, &key, &value, max_distance, 4).expect("shapes fit");
                let whole_mask = mask.tensor(length, &query).expect("it fits");
                let whole = Tensor::scaled_dot_product_attention(
                    &query,
                    &key,
                    &value,
                    Some(&whole_mask),
                    0.0,
                    false,
                    None,
                    false,
                );
                let difference = (blocks - whole).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{mask:?}, length {length}: {difference}");
            }
        }
        let far =
            DotProduct::plain(heads, &random(&[1])).with_mask(AttentionMask { causal: false, max_distance: Some(64) });
        assert_eq!([100, 4_096, 4_097].map(|length| far.is_in_blocks(length)), [false, false, true]);
    }

    #[test]
    fn every_mask_and_number_of_heads_is_as_defined() {
        tch::set_num_threads(1);
        let lengths = [7usize, 7, 4, 2, 1];
        let ids: Vec<Vec<u32>> = lengths.iter().map(|length| vec![1; *length]).collect();
        let batch: TokenBatch = ids.iter().map(Vec::as_slice).collect();
        let batch = PackedBatch::new(&batch, tch::Device::Cpu).expect("a few ids");
        let check = |heads: Heads, mask: AttentionMask| {
            let qkv = random(&[21, heads.qkv_width()]);
            let bias = random(&[heads.qkv_width()]);
            let mut out = Tensor::zeros([21, heads.attention_width()], (Kind::Float, tch::Device::Cpu));
            let mut attention = DotProduct::plain(heads, &qkv).with_mask(mask);
            attention.prepare(&batch).expect("it fits");
            attention.attend(0, &mut qkv.copy(), Some(&bias), &batch, &mut out).expect("shapes fit");
            let mut start = 0;
            for length in lengths.map(|length| length as i64) {
                let sequence = qkv.narrow(0, start, length) + &bias;
                let difference = (expected(&sequence, heads, mask) - out.narrow(0, start, length)).abs().max();
                assert!(difference.double_value(&[]) < 2e-6, "{heads:?} {mask:?} length {length}: {difference}");
                start += length;
            }
        };
        for heads in [Heads::equal(2, 16), Heads::equal(3, 6), Heads { query_heads: 6, kv_heads: 2, head_dim: 4 }] {
            for causal in [false, true] {
                for max_distance in [None, Some(0), Some(2), Some(6)] {
                    check(heads, AttentionMask { causal, max_distance });
                }
            }
        }
    }
}

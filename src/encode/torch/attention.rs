//! Attention over packed sequences. A family is handed one of these and does not know which.
//!
//! [`DotProduct`] is softmax(q kᵀ · scale + bias) v (Vaswani et al. 2017) with what families add to it: queries and keys
//! [turned by their places](super::rotary), heads of queries that share heads of keys, a [`Reach`], a
//! [bias by distance](super::relative). [`Alternating`] is several of them, by layer.

use tch::{Kind, TchError, Tensor};

use super::heads::Heads;
use super::memory;
use super::packed::{Group, Packed};
use super::relative::RelativeBias;
use super::rotary::Rotary;
use super::simd::attention::{LENGTH_MAX, ShortAttention, supports};

/// Mixes each sequence's tokens; no token sees another sequence.
pub trait Attention: Send {
    /// Makes what all layers share for this batch; called once before they are.
    fn prepare(&mut self, batch: &Packed) -> Result<(), TchError>;

    /// `qkv` holds each token's queries, keys and values side by side, `[tokens, qkv_width]`, still without their bias,
    /// `[qkv_width]`; what is left in it is undefined. The mixture of the values goes to `out`, `[tokens, mixed_width]`.
    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &Packed,
        out: &mut Tensor,
    ) -> Result<(), TchError>;

    /// The same for another worker on the same device.
    fn share(&self) -> Box<dyn Attention>;
}

/// `[rows, heads, length, dim]` → a group's part of `out`, `[tokens, heads * dim]`.
pub fn put_back(mixed: &Tensor, batch: &Packed, group: Group, heads: Heads, out: &Tensor) -> Result<(), TchError> {
    let mut place = batch.view(out, group)?.f_view([group.rows, group.length, heads.queries, heads.dim])?;
    place.f_copy_(&mixed.f_transpose(1, 2)?).map(drop)
}

/// Which tokens of its sequence a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// None that come after it.
    pub causal: bool,
    /// None that are further away than this.
    pub distance_max: Option<i64>,
}

impl Reach {
    /// Every token sees every token.
    pub const ALL: Reach = Reach { causal: false, distance_max: None };

    /// Whether the distance keeps a token from one that it would see in a sequence of this length.
    fn is_cut(self, length: i64) -> bool {
        self.distance_max.is_some_and(|most| most < length - 1)
    }

    fn is_all(self, length: i64) -> bool {
        (!self.causal || length == 1) && !self.is_cut(length)
    }

    /// 0 where a token sees another, -∞ where it does not. `[length, length]`
    fn mask(self, length: i64, like: &Tensor) -> Result<Tensor, TchError> {
        self.mask_between((0, length), (0, length), like)
    }

    /// The same between some queries and some keys, each by their first place and the one after their last.
    /// `[queries, keys]`
    fn mask_between(self, queries: (i64, i64), keys: (i64, i64), like: &Tensor) -> Result<Tensor, TchError> {
        let device = like.device();
        let places = |(first, end): (i64, i64)| Tensor::f_arange_start(first, end, (Kind::Int64, device));
        let ahead = places(keys)?.f_unsqueeze(0)?.f_sub(&places(queries)?.f_unsqueeze(1)?)?; // key - query
        let mut hidden = ahead.f_abs()?.f_gt(self.distance_max.unwrap_or(i64::MAX))?;
        if self.causal {
            hidden = hidden.f_logical_or(&ahead.f_gt(0)?)?;
        }
        Tensor::f_zeros(ahead.size(), (like.kind(), device))?.f_masked_fill(&hidden, f64::NEG_INFINITY)
    }
}

/// Longer sequences with a short reach are mixed by blocks of queries. A mask of this length has 64 MiB, and in front of it
/// the numbers stay as they were to the bit.
const BLOCKS_FROM: i64 = 4_096;
/// Queries of a block: large enough that its product is not small, small enough that what it does not need is little.
const BLOCK: i64 = 512;

pub struct DotProduct {
    pub heads: Heads,
    /// What q kᵀ is multiplied by; none is 1 / √dim.
    pub scale: Option<f64>,
    pub rotary: Option<Rotary>,
    pub reach: Reach,
    pub relative: Option<RelativeBias>,
    /// Added to the scores of the longest sequences, and its upper left corner to those of shorter ones: both depend on
    /// the distance alone. Only where something is to be added. `[1 or heads, length, length]`
    added: Option<Tensor>,
    /// A tensor on the device of the weights.
    like: Tensor,
}

impl DotProduct {
    /// Every token sees every token and nothing is added. `like` is a tensor on the device that it will run on.
    pub fn plain(heads: Heads, like: &Tensor) -> DotProduct {
        DotProduct {
            heads,
            scale: None,
            rotary: None,
            reach: Reach::ALL,
            relative: None,
            added: None,
            like: like.shallow_clone(),
        }
    }

    pub fn turned(self, rotary: Rotary) -> DotProduct {
        DotProduct { rotary: Some(rotary), ..self }
    }

    pub fn reaching(self, reach: Reach) -> DotProduct {
        DotProduct { reach, ..self }
    }

    pub fn scaled(self, scale: f64) -> DotProduct {
        DotProduct { scale: Some(scale), ..self }
    }

    /// A bias by distance goes with a reach without bounds: no family has both.
    pub fn biased(self, relative: RelativeBias) -> DotProduct {
        DotProduct { relative: Some(relative), ..self }
    }

    fn another(&self) -> DotProduct {
        DotProduct {
            heads: self.heads,
            scale: self.scale,
            rotary: self.rotary.as_ref().map(Rotary::share),
            reach: self.reach,
            relative: self.relative.as_ref().map(RelativeBias::share),
            added: None,
            like: self.like.shallow_clone(),
        }
    }

    fn short(&self, qkv: &[f32], bias: &[f32], group: Group, out: &mut [f32]) {
        let (width, mixed) = (self.heads.qkv_width() as usize, self.heads.mixed_width() as usize);
        let (start, tokens) = (group.start as usize, (group.rows * group.length) as usize);
        let attention = ShortAttention {
            heads: self.heads.queries as usize,
            head_dim: self.heads.dim as usize,
            length: group.length as usize,
            qkv: &qkv[start * width..][..tokens * width],
            bias,
            out: &mut out[start * mixed..][..tokens * mixed],
        };
        attention.run();
    }

    fn long(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        batch: &Packed,
        group: Group,
        out: &Tensor,
    ) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(batch.view(qkv, group)?.f_add_(bias)?);
        }
        let [query, key, value] = self.heads.split(qkv, group)?;
        let (key, value) = (self.heads.repeat(&key, group)?, self.heads.repeat(&value, group)?);
        let length = group.length;
        if let Some(distance_max) = self.reach.distance_max.filter(|_| self.is_in_blocks(length)) {
            let mixed = self.in_blocks(&query, &key, &value, (distance_max, BLOCK))?;
            return put_back(&mixed, batch, group, self.heads, out);
        }
        let is_added = self.relative.is_some() || self.reach.is_cut(length);
        let added = match &self.added {
            Some(added) if is_added => Some(added.f_narrow(1, 0, length)?.f_narrow(2, 0, length)?.f_unsqueeze(0)?),
            _ => None,
        };
        let causal = self.reach.causal && added.is_none();
        let mixed = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            added.as_ref(),
            0.0,
            causal,
            self.scale,
            false,
        )?;
        put_back(&mixed, batch, group, self.heads, out)
    }

    /// Whether sequences of this length are so much longer than what a token sees that most of a whole mask would be -∞.
    fn is_in_blocks(&self, length: i64) -> bool {
        length > BLOCKS_FROM && self.reach.distance_max.is_some_and(|most| 4 * most <= length)
    }

    /// The mixture where a token sees no further than `distance_max`, by blocks of queries, each with the keys that any of
    /// them sees: time and memory grow with the length, not with its square. `[rows, heads, length, dim]`
    fn in_blocks(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        (distance_max, block): (i64, i64),
    ) -> Result<Tensor, TchError> {
        let length = query.size()[2];
        let mut mixed = Vec::new();
        for first in (0..length).step_by(block as usize) {
            let end = (first + block).min(length);
            let from = (first - distance_max).max(0);
            let to = if self.reach.causal { end } else { (end + distance_max).min(length) };
            let mask = self.reach.mask_between((first, end), (from, to), &self.like)?;
            mixed.push(Tensor::f_scaled_dot_product_attention(
                &query.f_narrow(2, first, end - first)?,
                &key.f_narrow(2, from, to - from)?,
                &value.f_narrow(2, from, to - from)?,
                Some(&mask),
                0.0,
                false,
                self.scale,
                false,
            )?);
        }
        Tensor::f_cat(&mixed, 2)
    }

    /// Whether sequences may be mixed by our own loops, which know no more than the definition above.
    fn is_ordinary(&self) -> bool {
        supports(self.heads.dim as usize)
            && self.heads.queries == self.heads.keys
            && self.scale.is_none()
            && self.relative.is_none()
    }
}

impl Attention for DotProduct {
    fn prepare(&mut self, batch: &Packed) -> Result<(), TchError> {
        // Groups come longest first.
        let longest = batch.groups.first().map_or(0, |group| group.length);
        if let Some(rotary) = &mut self.rotary {
            rotary.prepare(longest)?;
        }
        self.added = match &self.relative {
            Some(relative) => Some(relative.of_length(longest)?),
            // Sequences that go by blocks need no mask of their own length; shorter ones of the same batch may need one.
            None if self.reach.is_cut(longest) => {
                let whole = batch.groups.iter().map(|group| group.length).find(|&length| !self.is_in_blocks(length));
                let mask = whole.map(|length| self.reach.mask(length, &self.like)?.f_unsqueeze(0));
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
        batch: &Packed,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        if let Some(rotary) = &self.rotary {
            if let Some(bias) = bias.take() {
                drop(qkv.f_add_(bias)?);
            }
            rotary.turn(qkv, self.heads, batch)?;
        }
        // Groups come longest first, and what is short enough for our own loops stays so as they get shorter.
        let is_ours = |group: &Group| group.length <= LENGTH_MAX as i64 && self.reach.is_all(group.length);
        let own = self.is_ordinary() && memory::is_plain(qkv) && bias.is_none_or(memory::is_plain);
        let theirs = if own { batch.groups.partition_point(|group| !is_ours(group)) } else { batch.groups.len() };
        let (theirs, ours) = batch.groups.split_at(theirs);
        for &group in theirs {
            self.long(qkv, bias, batch, group, out)?;
        }
        let zeros = || vec![0.0; if ours.is_empty() { 0 } else { self.heads.qkv_width() as usize }];
        let none = if bias.is_none() { zeros() } else { Vec::new() };
        let bias = bias.map_or(Some(none.as_slice()), memory::floats);
        if let (Some(qkv), Some(bias), Some(out)) = (memory::floats(qkv), bias, memory::floats_mut(out)) {
            ours.iter().for_each(|&group| self.short(qkv, bias, group, out));
        }
        Ok(())
    }

    fn share(&self) -> Box<dyn Attention> {
        Box::new(self.another())
    }
}

/// Layers of different kinds, such as a window in some and none in others.
pub struct Alternating {
    pub kinds: Vec<DotProduct>,
    /// Each layer's kind.
    pub of_layer: Vec<usize>,
}

impl Attention for Alternating {
    fn prepare(&mut self, batch: &Packed) -> Result<(), TchError> {
        self.kinds.iter_mut().try_for_each(|kind| kind.prepare(batch))
    }

    fn attend(
        &self,
        layer: usize,
        qkv: &mut Tensor,
        bias: Option<&Tensor>,
        batch: &Packed,
        out: &mut Tensor,
    ) -> Result<(), TchError> {
        self.kinds[self.of_layer[layer]].attend(layer, qkv, bias, batch, out)
    }

    fn share(&self) -> Box<dyn Attention> {
        let kinds = self.kinds.iter().map(DotProduct::another).collect();
        Box::new(Alternating { kinds, of_layer: self.of_layer.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenBatch;

    fn random(shape: &[i64]) -> Tensor {
        Tensor::rand(shape, (Kind::Float, tch::Device::Cpu)) * 4.0 - 2.0
    }

    /// The definition, over one sequence. `[length, queries * dim]`
    fn expected(qkv: &Tensor, heads: Heads, reach: Reach) -> Tensor {
        let length = qkv.size()[0];
        let part =
            |first: i64, count: i64| qkv.narrow(1, first * heads.dim, count * heads.dim).view([length, count, -1]);
        let (query, key) = (part(0, heads.queries), part(heads.queries, heads.keys));
        let value = part(heads.queries + heads.keys, heads.keys);
        let mixed = (0..heads.queries).map(|head| {
            let shared = head / (heads.queries / heads.keys);
            let mut scores = query.select(1, head).matmul(&key.select(1, shared).tr()) / (heads.dim as f64).sqrt();
            for (row, column) in (0..length).flat_map(|row| (0..length).map(move |column| (row, column))) {
                let far = reach.distance_max.is_some_and(|most| (row - column).abs() > most);
                if far || (reach.causal && column > row) {
                    drop(scores.get(row).get(column).fill_(f64::NEG_INFINITY));
                }
            }
            scores = scores.softmax(-1, Kind::Float);
            scores.matmul(&value.select(1, shared))
        });
        Tensor::stack(&mixed.collect::<Vec<_>>(), 1).flatten(1, 2)
    }

    #[test]
    fn blocks_of_queries_give_what_a_whole_mask_gives() {
        let heads = Heads::equal(2, 8);
        for length in [5, 16, 23] {
            for (causal, distance_max) in [(false, 0), (false, 3), (true, 3), (true, 7), (false, 30)] {
                let reach = Reach { causal, distance_max: Some(distance_max) };
                let [query, key, value] = [(); 3].map(|()| random(&[2, 2, length, 8]));
                let attention = DotProduct::plain(heads, &query).reaching(reach);
                let blocks = attention.in_blocks(&query, &key, &value, (distance_max, 4)).expect("shapes fit");
                let mask = reach.mask(length, &query).expect("it fits");
                let whole =
                    Tensor::scaled_dot_product_attention(&query, &key, &value, Some(&mask), 0.0, false, None, false);
                let difference = (blocks - whole).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{reach:?}, length {length}: {difference}");
            }
        }
        let far = DotProduct::plain(heads, &random(&[1])).reaching(Reach { causal: false, distance_max: Some(64) });
        assert_eq!([100, 4_096, 4_097].map(|length| far.is_in_blocks(length)), [false, false, true]);
    }

    #[test]
    fn every_reach_and_number_of_heads_is_as_defined() {
        tch::set_num_threads(1);
        let lengths = [7usize, 7, 4, 2, 1];
        let ids: Vec<Vec<u32>> = lengths.iter().map(|length| vec![1; *length]).collect();
        let batch: TokenBatch = ids.iter().map(Vec::as_slice).collect();
        let batch = Packed::new(&batch, tch::Device::Cpu).expect("a few ids");
        let check = |heads: Heads, reach: Reach| {
            let qkv = random(&[21, heads.qkv_width()]);
            let bias = random(&[heads.qkv_width()]);
            let mut out = Tensor::zeros([21, heads.mixed_width()], (Kind::Float, tch::Device::Cpu));
            let mut attention = DotProduct::plain(heads, &qkv).reaching(reach);
            attention.prepare(&batch).expect("it fits");
            attention.attend(0, &mut qkv.copy(), Some(&bias), &batch, &mut out).expect("shapes fit");
            let mut start = 0;
            for length in lengths.map(|length| length as i64) {
                let sequence = qkv.narrow(0, start, length) + &bias;
                let difference = (expected(&sequence, heads, reach) - out.narrow(0, start, length)).abs().max();
                assert!(difference.double_value(&[]) < 2e-6, "{heads:?} {reach:?} length {length}: {difference}");
                start += length;
            }
        };
        for heads in [Heads::equal(2, 16), Heads::equal(3, 6), Heads { queries: 6, keys: 2, dim: 4 }] {
            for causal in [false, true] {
                for distance_max in [None, Some(0), Some(2), Some(6)] {
                    check(heads, Reach { causal, distance_max });
                }
            }
        }
    }
}

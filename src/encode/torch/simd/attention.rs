//! softmax(q kᵀ / √head_dim) v, scaled dot-product attention (Vaswani et al. 2017), over short sequences, one head at a time.
//!
//! A register holds the scores of one key with several queries, so the softmax combines registers lane by lane and never the
//! lanes of one register. Eight registers are accumulated at once, which hides the latency of multiply-add. Scores lie in a
//! scratch buffer of a few kilobytes; for long sequences libtorch's blocked matrix products are faster.

use pulp::{Arch, Simd, WithSimd};

use super::exp2;

/// Sequences of more tokens are left to libtorch. With heads of 32 both take equally long near 110 tokens with AVX-512, and
/// near 64 tokens with AVX2.
pub(crate) const LENGTH_MAX: usize = 96;

/// Registers that are accumulated at once.
const ROWS: usize = 8;

/// Attention over sequences of equal length that lie end to end.
pub(crate) struct ShortAttention<'a> {
    pub heads: usize,
    pub head_dim: usize,
    /// Tokens of each sequence, at least 1.
    pub length: usize,
    /// Each token's query, key and value without their biases. `[rows * length, 3, heads, head_dim]`
    pub qkv: &'a [f32],
    /// `[3, heads, head_dim]`
    pub bias: &'a [f32],
    /// The attention's output. `[rows * length, heads, head_dim]`
    pub out: &'a mut [f32],
}

/// Whether heads of this size fill whole registers on every processor (16 floats at most).
pub(crate) fn supports(head_dim: usize) -> bool {
    head_dim > 0 && head_dim.is_multiple_of(16)
}

impl ShortAttention<'_> {
    /// Computes `out`.
    pub(crate) fn run(self) {
        debug_assert!(supports(self.head_dim) && self.length > 0, "the caller asks `supports` first");
        Arch::new().dispatch(self);
    }
}

impl WithSimd for ShortAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ShortAttention { heads, head_dim, length, qkv, bias, out } = self;
        let (hidden, lanes) = (heads * head_dim, S::F32_LANES);
        let mut scratch = Scratch {
            queries: vec![0.0; head_dim * lanes],
            weights: vec![0.0; length * lanes],
            inverse_sums: vec![0.0; lanes],
        };
        for (tokens, out) in qkv.chunks_exact(length * 3 * hidden).zip(out.chunks_exact_mut(length * hidden)) {
            for head in 0..heads {
                let head = Head { tokens, bias, hidden, start: head * head_dim, head_dim };
                for first in (0..length).step_by(lanes) {
                    let queries = lanes.min(length - first);
                    head.gather_queries(first, queries, lanes, &mut scratch.queries);
                    head.compute_weights(simd, &mut scratch);
                    head.sum_values(simd, first, queries, &scratch, out);
                }
            }
        }
    }
}

/// Intermediate results for as many queries as a register has lanes. Unused lanes hold what earlier queries left.
struct Scratch {
    /// With bias, and scaled. `[head_dim, lanes]`
    queries: Vec<f32>,
    /// The softmax's numerators: the weight of each key for each query before division by their sum. `[length, lanes]`
    weights: Vec<f32>,
    /// 1 / the sum of a query's weights. `[lanes]`
    inverse_sums: Vec<f32>,
}

/// One head of one sequence.
struct Head<'a> {
    /// `[length, 3, hidden]`
    tokens: &'a [f32],
    /// `[3, hidden]`
    bias: &'a [f32],
    hidden: usize,
    /// Where the head's part of `hidden` begins.
    start: usize,
    head_dim: usize,
}

impl<'a> Head<'a> {
    /// Copies `count` queries from token `first` on into `queries`, `[head_dim, lanes]`.
    fn gather_queries(&self, first: usize, count: usize, lanes: usize, queries: &mut [f32]) {
        // log2(e) makes e^score the 2^score that `exp2` computes.
        let scale = std::f32::consts::LOG2_E / (self.head_dim as f32).sqrt();
        let bias = &self.bias[self.start..][..self.head_dim];
        for lane in 0..count {
            let query = &self.tokens[(first + lane) * 3 * self.hidden + self.start..][..self.head_dim];
            for ((value, bias), column) in query.iter().zip(bias).zip(queries.chunks_exact_mut(lanes)) {
                column[lane] = (value + bias) * scale;
            }
        }
    }

    /// The first `width` values of a token's key, without bias.
    #[inline(always)]
    fn key(&self, token: usize, width: usize) -> &'a [f32] {
        &self.tokens[token * 3 * self.hidden + self.hidden + self.start..][..width]
    }

    /// Computes `scratch.weights` and `scratch.inverse_sums`. The keys' bias is left out: it adds the same number to every
    /// score of a query, which does not change the softmax.
    #[inline(always)]
    fn compute_weights<S: Simd>(&self, simd: S, scratch: &mut Scratch) {
        let queries = S::as_simd_f32s(&scratch.queries).0;
        let weights = S::as_mut_simd_f32s(&mut scratch.weights).0;
        let last = weights.len() - 1;
        let mut max = simd.splat_f32s(f32::NEG_INFINITY);
        for first in (0..weights.len()).step_by(ROWS) {
            // Past the end the last token is repeated: its score is computed again and written to the same position.
            let mut keys = [self.key(last, queries.len()); ROWS];
            for (row, key) in keys.iter_mut().enumerate() {
                *key = self.key((first + row).min(last), queries.len());
            }
            let mut scores = [simd.splat_f32s(0.0); ROWS];
            for (column, query) in queries.iter().enumerate() {
                for row in 0..ROWS {
                    scores[row] = simd.mul_add_e_f32s(simd.splat_f32s(keys[row][column]), *query, scores[row]);
                }
            }
            for row in 0..ROWS {
                max = simd.max_f32s(max, scores[row]);
                weights[(first + row).min(last)] = scores[row];
            }
        }
        let mut sum = simd.splat_f32s(0.0);
        for weight in weights {
            *weight = exp2(simd, simd.sub_f32s(*weight, max));
            sum = simd.add_f32s(sum, *weight);
        }
        let inverse = simd.div_f32s(simd.splat_f32s(1.0), sum);
        S::as_mut_simd_f32s(&mut scratch.inverse_sums).0[0] = inverse;
    }

    /// Writes the weighted sums of the values for `count` queries from token `first` on to `out`, `[length, hidden]`. The
    /// values' bias is added once at the end, since the weights of a query add up to 1.
    #[inline(always)]
    fn sum_values<S: Simd>(&self, simd: S, first: usize, count: usize, scratch: &Scratch, out: &mut [f32]) {
        let (lanes, hidden) = (S::F32_LANES, self.hidden);
        let rows_max = ROWS.min(lanes);
        let bias = S::as_simd_f32s(&self.bias[2 * hidden + self.start..][..self.head_dim]).0;
        for (block, bias) in bias.iter().enumerate() {
            let column = self.start + block * lanes;
            for row in (0..count).step_by(rows_max) {
                let mut sums = [simd.splat_f32s(0.0); ROWS];
                for (weights, token) in scratch.weights.chunks_exact(lanes).zip(self.tokens.chunks_exact(3 * hidden)) {
                    let value = S::as_simd_f32s(&token[2 * hidden + column..][..lanes]).0[0];
                    let weights = &weights[row..][..rows_max];
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_e_f32s(simd.splat_f32s(*weight), value, *sum);
                    }
                }
                for row in row..count.min(row + rows_max) {
                    let target = S::as_mut_simd_f32s(&mut out[(first + row) * hidden + column..][..lanes]).0;
                    let inverse = simd.splat_f32s(scratch.inverse_sums[row]);
                    target[0] = simd.mul_add_e_f32s(sums[row % rows_max], inverse, *bias);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in double precision.
    fn expected(length: usize, heads: usize, head_dim: usize, qkv: &[f32], bias: &[f32]) -> Vec<f64> {
        let hidden = heads * head_dim;
        let value = |token: usize, part: usize, head: usize, column: usize| {
            let at = part * hidden + head * head_dim + column;
            f64::from(qkv[token * 3 * hidden + at]) + f64::from(bias[at])
        };
        let mut out = Vec::new();
        for token in 0..qkv.len() / (3 * hidden) {
            let sequence = token / length * length..(token / length + 1) * length;
            for head in 0..heads {
                let score = |other: usize| {
                    let product = (0..head_dim).map(|c| value(token, 0, head, c) * value(other, 1, head, c));
                    (product.sum::<f64>() / (head_dim as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = sequence.clone().map(score).collect();
                let sum: f64 = scores.iter().sum();
                for column in 0..head_dim {
                    let parts =
                        sequence.clone().zip(&scores).map(|(other, score)| score * value(other, 2, head, column));
                    out.push(parts.sum::<f64>() / sum);
                }
            }
        }
        out
    }

    #[test]
    fn every_length_is_computed_as_defined() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for (heads, head_dim) in [(2, 32), (1, 64), (3, 16)] {
            let hidden = heads * head_dim;
            for length in (1..=40).chain([63, 64, 65, LENGTH_MAX]) {
                let qkv: Vec<f32> = (0..2 * length * 3 * hidden).map(|_| random() * 2.0).collect();
                let bias: Vec<f32> = (0..3 * hidden).map(|_| random()).collect();
                let mut out = vec![0.0; 2 * length * hidden];
                ShortAttention { heads, head_dim, length, qkv: &qkv, bias: &bias, out: &mut out }.run();
                for (found, expected) in out.iter().zip(expected(length, heads, head_dim, &qkv, &bias)) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "length {length}: {found}, not {expected}");
                }
            }
        }
    }
}

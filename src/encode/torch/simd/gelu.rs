//! x + b, then GELU by the error function (Hendrycks & Gimpel 2016), in one pass over memory.

use pulp::{Arch, Simd, WithSimd};

use super::exp2;

/// gelu(x) = x/2 · erfc(-x/√2) = max(x, 0) - |x|/2 · t with t = erfc(|x|/√2), and t = 2^(-|x| · Q(|x|)) for a smooth Q.
///
/// Q's coefficients, lowest first, for |x| ≤ 6 (beyond, t < 2e-9): weighted least squares by `tests/golden/gelu.py`,
/// which also finds the largest error in single precision, 5e-8.
const Q: [f32; 8] = [
    1.151_111,
    4.591_621_5e-1,
    5.262_761_2e-2,
    -7.245_421_4e-3,
    2.720_757_6e-4,
    1.314_732e-4,
    -2.805_693_8e-5,
    1.902_065_5e-6,
];
/// The largest |x| that [`Q`] is fitted for.
const Q_MAX: f32 = 6.0;

/// Adds `bias` to each row and applies GELU, in place. `x` is `[tokens, bias.len()]`.
pub(crate) fn add_bias_and_gelu(x: &mut [f32], bias: &[f32]) {
    debug_assert!(!bias.is_empty() && x.len().is_multiple_of(bias.len()), "whole rows");
    Arch::new().dispatch(Gelu { x, bias });
}

struct Gelu<'a> {
    x: &'a mut [f32],
    bias: &'a [f32],
}

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (bias, bias_tail) = S::as_simd_f32s(self.bias);
        for row in self.x.chunks_exact_mut(self.bias.len()) {
            let (row, tail) = S::as_mut_simd_f32s(row);
            for (x, bias) in row.iter_mut().zip(bias) {
                *x = gelu(simd, simd.add_f32s(*x, *bias));
            }
            if !tail.is_empty() {
                let sum = simd.add_f32s(simd.partial_load_f32s(tail), simd.partial_load_f32s(bias_tail));
                simd.partial_store_f32s(tail, gelu(simd, sum));
            }
        }
    }
}

/// The formula at [`Q`], for one register.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let magnitude = simd.abs_f32s(x);
    let clamped = simd.min_f32s(magnitude, simd.splat_f32s(Q_MAX));
    let mut q = simd.splat_f32s(Q[Q.len() - 1]);
    for coefficient in Q.iter().rev().skip(1) {
        q = simd.mul_add_e_f32s(q, clamped, simd.splat_f32s(*coefficient));
    }
    let t = exp2(simd, simd.neg_f32s(simd.mul_f32s(q, clamped)));
    let half = simd.mul_f32s(simd.splat_f32s(-0.5), magnitude);
    simd.mul_add_e_f32s(half, t, simd.max_f32s(x, simd.splat_f32s(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gelu in double precision from `math.erfc` of Python 3.12.
    const EXPECTED: [(f32, f64); 9] = [
        (-6.5, -2.610_400_379_5e-10),
        (-4.0, -1.266_849_673_3e-4),
        (-1.5, -1.002_108_019e-1),
        (-0.25, -1.003_234_185_8e-1),
        (0.0, 0.0),
        (0.125, 6.871_727_810_4e-2),
        (0.75, 5.800_294_857_2e-1),
        (2.0, 1.954_499_736_1),
        (9.0, 9.0),
    ];

    #[test]
    fn rows_of_every_width_get_their_bias_and_gelu() {
        for width in [1, 7, 16, 33] {
            let bias: Vec<f32> = (0..width).map(|column| column as f32 / 64.0).collect();
            for (x, expected) in EXPECTED {
                let mut rows: Vec<f32> = (0..3).flat_map(|_| bias.iter().map(|bias| x - bias)).collect();
                add_bias_and_gelu(&mut rows, &bias);
                for value in rows {
                    assert!((f64::from(value) - expected).abs() < 6e-7, "gelu({x}) is {expected}, not {value}");
                }
            }
        }
    }
}

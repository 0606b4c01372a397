//! Vectorised loops for a CPU worker of one thread, for cases where libtorch's general operations cost more than the
//! arithmetic: attention over short sequences, and GELU with the bias before it. Slices in, slices out; no tensors.
//!
//! The instruction set is chosen when the program runs (`pulp`); each loop is written once for all of them. A worker of
//! several threads uses libtorch's operations instead, which divide the work among its threads.

pub(super) mod attention;
pub(super) mod gelu;

use pulp::Simd;

/// 2^x for x ≤ 0, with a relative error of 2e-7 at most. Below -126 it is 2⁻¹²⁶, which makes no difference in a sum with
/// larger terms.
///
/// x is split into an integer, which becomes the exponent's bits, and a rest in [-½, ½], for which the Taylor series of
/// e^(rest · ln 2) up to the seventh power is exact to 5e-9.
#[inline(always)]
fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// 1.5 · 2²³: added to a small number, it leaves the nearest integer in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    /// (ln 2)ⁿ / n!, highest power first.
    const SERIES: [f32; 8] = [
        1.525_273_4e-5,
        1.540_353e-4,
        1.333_355_8e-3,
        9.618_129e-3,
        5.550_411e-2,
        2.402_265e-1,
        std::f32::consts::LN_2,
        1.0,
    ];
    let x = simd.max_f32s(x, simd.splat_f32s(-126.0));
    let shifted = simd.add_f32s(x, simd.splat_f32s(ROUND));
    let rest = simd.sub_f32s(x, simd.sub_f32s(shifted, simd.splat_f32s(ROUND)));
    let mut power = simd.splat_f32s(SERIES[0]);
    for coefficient in &SERIES[1..] {
        power = simd.mul_add_e_f32s(power, rest, simd.splat_f32s(*coefficient));
    }
    let biased = simd.sub_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(ROUND.to_bits() - 127));
    let whole = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(biased, simd.splat_u32s(23)));
    simd.mul_f32s(power, whole)
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Exp2<'a>(&'a mut [f32]);

    impl WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = exp2(simd, *x);
            }
        }
    }

    #[test]
    fn powers_of_two_agree_with_double_precision() {
        let exponents: Vec<f32> = (0..16 * 8_000).map(|step| -(step as f32) / 1_000.0).collect();
        let mut powers = exponents.clone();
        Arch::new().dispatch(Exp2(&mut powers));
        for (x, power) in exponents.into_iter().zip(powers) {
            let expected = f64::from(x.max(-126.0)).exp2();
            assert!((f64::from(power) / expected - 1.0).abs() < 2e-7, "2^{x} is {expected}, not {power}");
        }
    }
}

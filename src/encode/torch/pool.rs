//! Token vectors in, one vector a sequence out, as sentence-transformers' modules Pooling and Normalize do it.

use tch::{TchError, Tensor};

use super::packed::Packed;
use crate::encode::PoolingMode;

/// Pools `[tokens, hidden]` to `[rows, modes * hidden]`, rows in packed order, modes side by side in their order.
pub fn pool(tokens: &Tensor, batch: &Packed, modes: &[PoolingMode]) -> Result<Tensor, TchError> {
    let pooled = modes.iter().map(|mode| pool_one(tokens, batch, *mode)).collect::<Result<Vec<_>, _>>()?;
    match pooled.as_slice() {
        [only] => Ok(only.shallow_clone()),
        several => Tensor::f_cat(several, 1),
    }
}

fn pool_one(tokens: &Tensor, batch: &Packed, mode: PoolingMode) -> Result<Tensor, TchError> {
    let mut parts = Vec::with_capacity(batch.groups.len());
    for &group in &batch.groups {
        let group = batch.view(tokens, group)?; // [rows, length, hidden]
        parts.push(match mode {
            PoolingMode::Mean => group.f_mean_dim(1, false, None)?,
            PoolingMode::Max => group.f_amax(1, false)?,
            PoolingMode::Cls => group.f_select(1, 0)?,
        });
    }
    Tensor::f_cat(&parts, 0)
}

/// x / max(‖x‖, 1e-12), row by row; a row of zeros stays zeros.
pub fn normalize(vectors: Tensor) -> Result<Tensor, TchError> {
    let norms = vectors.f_norm_scalaropt_dim(2, 1, true)?.f_clamp_min(1e-12)?;
    vectors.f_div(&norms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenBatch;

    #[test]
    fn each_mode_is_what_its_name_says() {
        let rows: [&[u32]; 3] = [&[0; 2], &[0; 1], &[0; 2]];
        let batch = Packed::new(&rows.into_iter().collect::<TokenBatch>(), tch::Device::Cpu).expect("five tokens");
        // Packed rows: 0, 2, 1.
        let tokens = Tensor::from_slice(&[1f32, 9.0, 3.0, 5.0, -1.0, 0.0, -3.0, -2.0, 7.0, 0.5]).view([5, 2]);
        let check = |modes: &[PoolingMode], expected: &[f32]| {
            let pooled = pool(&tokens, &batch, modes).expect("shapes fit");
            assert_eq!(Vec::<f32>::try_from(pooled.flatten(0, 1)).expect("floats"), expected, "{modes:?}");
        };
        check(&[PoolingMode::Mean], &[2.0, 7.0, -2.0, -1.0, 7.0, 0.5]);
        check(&[PoolingMode::Max], &[3.0, 9.0, -1.0, 0.0, 7.0, 0.5]);
        check(&[PoolingMode::Cls], &[1.0, 9.0, -1.0, 0.0, 7.0, 0.5]);
        check(&[PoolingMode::Cls, PoolingMode::Max], &[1.0, 9.0, 3.0, 9.0, -1.0, 0.0, -1.0, 0.0, 7.0, 0.5, 7.0, 0.5]);
    }

    #[test]
    fn zeros_stay_zeros() {
        let vectors = normalize(Tensor::from_slice(&[0f32, 0.0, 3.0, 4.0]).view([2, 2])).expect("shapes fit");
        assert_eq!(Vec::<f32>::try_from(vectors.flatten(0, 1)).expect("floats"), [0.0, 0.0, 0.6, 0.8]);
    }
}

//! A bias by distance (Raffel et al. 2020): distances fall into buckets, one each for near ones and wider ones for those
//! further away, and each bucket adds a number of its own to every head's scores.

use tch::{Kind, TchError, Tensor};

/// Shared by all layers of a model.
pub struct RelativeBias {
    /// `[buckets, heads]`
    pub table: Tensor,
    /// Rows that distances are told apart by: half for tokens ahead, half for those behind.
    pub buckets: i64,
    /// From here on all distances share the last bucket.
    pub distance_max: i64,
}

impl RelativeBias {
    pub fn share(&self) -> RelativeBias {
        RelativeBias { table: self.table.shallow_clone(), ..*self }
    }

    /// `[heads, query, key]`, each as long as `length`
    pub fn of_length(&self, length: i64) -> Result<Tensor, TchError> {
        let options = (Kind::Int64, self.table.device());
        // Every distance once, from the furthest behind to the furthest ahead.
        let ahead = Tensor::f_arange_start_step(1 - length, length, 1, options)?;
        let by_distance = self.table.f_index_select(0, &self.bucket(&ahead)?)?.f_tr()?; // [heads, 2 * length - 1]
        let place = Tensor::f_arange(length, options)?;
        let which = place.f_unsqueeze(0)?.f_sub(&place.f_unsqueeze(1)?)?.f_add_scalar(length - 1)?;
        by_distance.f_index_select(1, &which.f_view([-1])?)?.f_view([-1, length, length])
    }

    /// The bucket of each distance, key - query; as `T5Attention._relative_position_bucket` in both directions, in its
    /// order, since a distance at a bucket's edge falls where single precision puts it.
    fn bucket(&self, ahead: &Tensor) -> Result<Tensor, TchError> {
        let half = self.buckets / 2;
        let exact = half / 2;
        let side = ahead.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(half)?;
        let distance = ahead.f_abs()?;
        let steps = (self.distance_max as f64 / exact as f64).ln();
        let far = distance.f_to_kind(Kind::Float)?.f_div_scalar(exact)?.f_log()?;
        let far = far.f_div_scalar(steps)?.f_mul_scalar(half - exact)?;
        // Of distance 0 the logarithm is infinite; it is not used, but must not leave the range of whole numbers.
        let far = far.f_clamp(0.0, half as f64)?.f_to_kind(Kind::Int64)?.f_add_scalar(exact)?.f_clamp_max(half - 1)?;
        side.f_add(&distance.f_where_self(&distance.f_lt(exact)?, &far)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets of transformers' `MPNetEncoder.relative_position_bucket`, 32 buckets, distances up to 128.
    #[test]
    fn distances_fall_into_the_buckets_of_the_paper() {
        let table = Tensor::arange(32, (Kind::Float, tch::Device::Cpu)).view([32, 1]);
        let bias = RelativeBias { table, buckets: 32, distance_max: 128 };
        let found = bias.of_length(200).expect("it fits");
        assert_eq!(found.size(), [1, 200, 200]);
        let at = |query: i64, key: i64| found.double_value(&[0, query, key]) as i64;
        for (distance, bucket) in
            [(0, 0), (1, 1), (7, 7), (8, 8), (11, 8), (12, 9), (16, 10), (64, 14), (91, 15), (199, 15)]
        {
            assert_eq!(at(distance, 0), bucket, "{distance} behind");
            assert_eq!(at(0, distance), if distance == 0 { 0 } else { bucket + 16 }, "{distance} ahead");
        }
    }
}

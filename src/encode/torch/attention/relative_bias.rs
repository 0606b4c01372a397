//! T5's relative attention bias (Raffel et al. 2020): relative positions fall into buckets, one for each near position and
//! wider ones for those further away, and each bucket adds a learned number to every head's scores.

use tch::{Kind, TchError, Tensor};

/// The learned bias of each bucket, shared by all layers of most models.
pub(crate) struct RelativeBias {
    /// `[buckets, heads]`
    pub table: Tensor,
    /// The buckets that are used: half for keys after the query, half for those before it.
    pub buckets: i64,
    /// From this distance on all relative positions share the last bucket.
    pub max_distance: i64,
}

impl RelativeBias {
    /// The same bias for another worker: the table is shared.
    pub(crate) fn share(&self) -> RelativeBias {
        RelativeBias { table: self.table.shallow_clone(), ..*self }
    }

    /// What is added to the scores of a sequence of this length. `[heads, query, key]`, `length` queries and keys
    pub(crate) fn tensor(&self, length: i64) -> Result<Tensor, TchError> {
        let options = (Kind::Int64, self.table.device());
        // Every relative position once, from the furthest before to the furthest after.
        let relative = Tensor::f_arange_start_step(1 - length, length, 1, options)?;
        let by_relative = self.table.f_index_select(0, &self.bucket(&relative)?)?.f_tr()?; // [heads, 2 * length - 1]
        let position = Tensor::f_arange(length, options)?;
        // key - query, as an index into `by_relative`. [query, key]
        let index = position.f_unsqueeze(0)?.f_sub(&position.f_unsqueeze(1)?)?.f_add_scalar(length - 1)?;
        by_relative.f_index_select(1, &index.f_view([-1])?)?.f_view([-1, length, length])
    }

    /// The bucket of each relative position, key - query: transformers' `T5Attention._relative_position_bucket` with
    /// `bidirectional=True`. The operations keep its order, since single precision decides on which side of a bucket's
    /// edge a position falls.
    fn bucket(&self, relative: &Tensor) -> Result<Tensor, TchError> {
        let half = self.buckets / 2;
        let max_exact = half / 2;
        let side = relative.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(half)?;
        let distance = relative.f_abs()?;
        let log_range = (self.max_distance as f64 / max_exact as f64).ln();
        let far = distance.f_to_kind(Kind::Float)?.f_div_scalar(max_exact)?.f_log()?;
        let far = far.f_div_scalar(log_range)?.f_mul_scalar(half - max_exact)?;
        // The logarithm of distance 0 is infinite. That value is not used, but must not leave the range of integers.
        let far =
            far.f_clamp(0.0, half as f64)?.f_to_kind(Kind::Int64)?.f_add_scalar(max_exact)?.f_clamp_max(half - 1)?;
        side.f_add(&distance.f_where_self(&distance.f_lt(max_exact)?, &far)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets of transformers' `MPNetEncoder.relative_position_bucket`, 32 buckets, distances up to 128.
    #[test]
    fn distances_fall_into_the_buckets_of_the_paper() {
        let table = Tensor::arange(32, (Kind::Float, tch::Device::Cpu)).view([32, 1]);
        let bias = RelativeBias { table, buckets: 32, max_distance: 128 };
        let found = bias.tensor(200).expect("it fits");
        assert_eq!(found.size(), [1, 200, 200]);
        let at = |query: i64, key: i64| found.double_value(&[0, query, key]) as i64;
        for (distance, bucket) in
            [(0, 0), (1, 1), (7, 7), (8, 8), (11, 8), (12, 9), (16, 10), (64, 14), (91, 15), (199, 15)]
        {
            assert_eq!(at(distance, 0), bucket, "{distance} before");
            assert_eq!(at(0, distance), if distance == 0 { 0 } else { bucket + 16 }, "{distance} after");
        }
    }
}

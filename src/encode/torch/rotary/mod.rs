//! Rotary position embeddings, RoPE (Su et al. 2021): each pair of a query's or key's values, the n-th of its first half with
//! the n-th of its second half, is rotated by an angle of the token's position times the pair's frequency.
//!
//! [`config`] reads the parameters from config.json, [`frequencies`] computes the frequencies.

pub(super) mod config;
pub(super) mod frequencies;

use tch::{Device, Kind, TchError, Tensor};

use super::attention::heads::Heads;
use super::memory;
use super::packed_batch::PackedBatch;
use frequencies::RopeFrequencies;

/// Rotates queries and keys by their positions.
pub(super) struct Rotary {
    /// `[head_dim / 2]`
    frequencies: Tensor,
    /// What cosines and sines are multiplied by.
    attention_factor: f64,
    /// For the positions of the longest sequence so far. `[positions, head_dim / 2]`
    cosines: Tensor,
    /// `[positions, head_dim / 2]`
    sines: Tensor,
}

impl Rotary {
    /// Computes the frequencies; cosines and sines are computed by [`prepare`](Rotary::prepare).
    pub(super) fn new(frequencies: &RopeFrequencies, device: Device) -> Result<Rotary, TchError> {
        let empty = Tensor::f_zeros([0, frequencies.head_dim / 2], (Kind::Float, device))?;
        Ok(Rotary {
            frequencies: frequencies.compute()?.f_to_device(device)?,
            attention_factor: frequencies.attention_factor(),
            cosines: empty.shallow_clone(),
            sines: empty,
        })
    }

    /// The same embeddings for another worker on the same device.
    pub(super) fn share(&self) -> Rotary {
        Rotary {
            frequencies: self.frequencies.shallow_clone(),
            attention_factor: self.attention_factor,
            cosines: self.cosines.shallow_clone(),
            sines: self.sines.shallow_clone(),
        }
    }

    /// Computes cosines and sines for sequences of this length, if they are not there yet.
    pub(super) fn prepare(&mut self, length: i64) -> Result<(), TchError> {
        if self.cosines.size()[0] < length {
            let positions = Tensor::f_arange(length, (Kind::Float, self.frequencies.device()))?;
            let angles = positions.f_unsqueeze(1)?.f_mul(&self.frequencies.f_unsqueeze(0)?)?;
            self.cosines = angles.f_cos()?.f_mul_scalar(self.attention_factor)?;
            self.sines = angles.f_sin()?.f_mul_scalar(self.attention_factor)?;
        }
        Ok(())
    }

    /// Rotates the queries and keys in `qkv`, `[tokens, qkv_width]`, in place; transformers' `apply_rotary_pos_emb`.
    pub(super) fn apply_rotary(&self, qkv: &mut Tensor, heads: Heads, batch: &PackedBatch) -> Result<(), TchError> {
        if let (Some(cosines), Some(sines), Some(values)) =
            (memory::floats(&self.cosines), memory::floats(&self.sines), memory::floats_mut(qkv))
        {
            apply_by_loop(values, heads, batch, cosines, sines);
            return Ok(());
        }
        self.apply_by_libtorch(qkv, heads, batch)
    }

    fn apply_by_libtorch(&self, qkv: &Tensor, heads: Heads, batch: &PackedBatch) -> Result<(), TchError> {
        let Heads { query_heads, kv_heads, head_dim } = heads;
        let rotated = query_heads + kv_heads; // queries and keys lie side by side
        for &group in &batch.groups {
            let part = batch.view(qkv, group)?.f_narrow(2, 0, rotated * head_dim)?;
            let halves = part.f_view([group.rows, group.length, rotated, 2, head_dim / 2])?;
            // [rows, length, heads, head_dim / 2]
            let (mut first, mut second) = (halves.f_select(3, 0)?, halves.f_select(3, 1)?);
            let cosines = self.cosines.f_narrow(0, 0, group.length)?.f_unsqueeze(1)?; // [length, 1, head_dim / 2]
            let sines = self.sines.f_narrow(0, 0, group.length)?.f_unsqueeze(1)?;
            let new_first = first.f_mul(&cosines)?.f_sub(&second.f_mul(&sines)?)?;
            let new_second = second.f_mul(&cosines)?.f_add(&first.f_mul(&sines)?)?;
            first.f_copy_(&new_first)?;
            second.f_copy_(&new_second)?;
        }
        Ok(())
    }
}

/// The same in one pass over memory, where libtorch's operations take six.
fn apply_by_loop(qkv: &mut [f32], heads: Heads, batch: &PackedBatch, cosines: &[f32], sines: &[f32]) {
    let (width, head_dim) = (heads.qkv_width() as usize, heads.head_dim as usize);
    let rotated = (heads.query_heads + heads.kv_heads) as usize * head_dim;
    let half = head_dim / 2;
    for group in &batch.groups {
        let tokens = &mut qkv[group.start as usize * width..][..group.tokens() as usize * width];
        for (index, token) in tokens.chunks_exact_mut(width).enumerate() {
            let position = index % group.length as usize;
            let (cosines, sines) = (&cosines[position * half..][..half], &sines[position * half..][..half]);
            for head in token[..rotated].chunks_exact_mut(head_dim) {
                let (first, second) = head.split_at_mut(half);
                for ((first, second), (cosine, sine)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
                    let (x, y) = (*first, *second);
                    *first = x * cosine - y * sine;
                    *second = y * cosine + x * sine;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::frequencies::RopeScaling;
    use super::*;
    use crate::batch::TokenBatch;

    #[test]
    fn the_loop_does_what_libtorch_does() {
        tch::set_num_threads(1);
        let rows: [&[u32]; 4] = [&[0; 5], &[0; 5], &[0; 3], &[0; 1]];
        let batch = PackedBatch::new(&rows.into_iter().collect::<TokenBatch>(), Device::Cpu).expect("14 tokens");
        let heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 6 };
        let frequencies = RopeFrequencies { head_dim: 6, theta: 100.0, scaling: RopeScaling::None };
        let mut rotary = Rotary::new(&frequencies, Device::Cpu).expect("it is computed");
        rotary.prepare(5).expect("five positions");
        let qkv = Tensor::rand([14, heads.qkv_width()], (Kind::Float, Device::Cpu));
        let (mut by_loop, by_libtorch) = (qkv.copy(), qkv.copy());
        rotary.apply_rotary(&mut by_loop, heads, &batch).expect("shapes fit");
        rotary.apply_by_libtorch(&by_libtorch, heads, &batch).expect("shapes fit");
        assert!((&by_loop - &by_libtorch).abs().max().double_value(&[]) < 1e-6);
        assert!((&by_loop - &qkv).abs().max().double_value(&[]) > 0.1);
        let values = heads.attention_width() + heads.kv_width();
        assert!(by_loop.narrow(1, values, 12).equal(&qkv.narrow(1, values, 12)));
    }
}

//! A batch as the model computes it: all tokens end to end in one flat tensor, sequences of equal length side by side.
//!
//! Linear layers, norms and activations do not depend on which sequence a token belongs to, so they run on the flat tensor.
//! Attention and pooling do, so they run once for each group of sequences of equal length, on a view of the flat tensor.
//! Nothing is padded: no time goes into padding, and no neighbour can change the vectors of a sequence.

use tch::{Device, TchError, Tensor};

use crate::batch::TokenBatch;

/// A batch's token ids on a device, and where each sequence lies among them.
pub(crate) struct PackedBatch {
    /// Ids of all tokens, sequence after sequence in the order of `order`. `[tokens]`, 32 bits, on the device
    pub ids: Tensor,
    pub tokens: i64,
    /// Consecutive sequences of equal length, longest first; together they cover all tokens.
    pub groups: Vec<LengthGroup>,
    /// For each packed sequence its row in the batch. Rows without tokens are left out.
    pub order: Vec<usize>,
}

/// `rows` sequences of `length` tokens each, from token `start` of the flat tensor on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LengthGroup {
    pub start: i64,
    pub rows: i64,
    pub length: i64,
}

impl LengthGroup {
    /// The number of tokens in the group.
    pub(crate) fn tokens(self) -> i64 {
        self.rows * self.length
    }
}

impl PackedBatch {
    /// Packs a batch and copies its ids to the device.
    pub(crate) fn new(batch: &TokenBatch, device: Device) -> Result<PackedBatch, TchError> {
        let mut order: Vec<usize> = (0..batch.rows()).filter(|&row| batch.length(row) > 0).collect();
        // Batches usually arrive sorted; then this pass changes nothing.
        order.sort_by_key(|&row| std::cmp::Reverse(batch.length(row)));
        let groups = length_groups(order.iter().map(|&row| batch.length(row)));
        let in_order = order.is_sorted();
        let ids = if in_order {
            Tensor::f_from_slice(batch.ids())?
        } else {
            let ids: Vec<i32> = order.iter().flat_map(|&row| batch.row(row)).copied().collect();
            Tensor::f_from_slice(&ids)?
        };
        Ok(PackedBatch { ids: ids.f_to_device(device)?, tokens: batch.tokens() as i64, groups, order })
    }

    /// The length of the longest sequence; 0 in an empty batch.
    pub(crate) fn longest(&self) -> i64 {
        // Groups come longest first.
        self.groups.first().map_or(0, |group| group.length)
    }

    /// A group's part of a flat `[tokens, width]` tensor, as a view. `[rows, length, width]`
    pub(crate) fn view(&self, flat: &Tensor, group: LengthGroup) -> Result<Tensor, TchError> {
        flat.f_narrow(0, group.start, group.tokens())?.f_view([group.rows, group.length, -1])
    }
}

/// Groups sequences, given by their lengths in packed order.
fn length_groups(lengths: impl Iterator<Item = usize>) -> Vec<LengthGroup> {
    let mut groups: Vec<LengthGroup> = Vec::new();
    let mut start = 0;
    for length in lengths.map(|length| length as i64) {
        match groups.last_mut() {
            Some(group) if group.length == length => group.rows += 1,
            _ => groups.push(LengthGroup { start, rows: 1, length }),
        }
        start += length;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_length_and_empty_ones_left_out() {
        let rows: [&[u32]; 6] = [&[1], &[2, 3], &[], &[4], &[5, 6], &[7, 8, 9]];
        let batch: TokenBatch = rows.into_iter().collect();
        let packed = PackedBatch::new(&batch, Device::Cpu).expect("a tensor of ten numbers");
        assert_eq!(packed.order, [5, 1, 4, 0, 3]);
        let group = |start, rows, length| LengthGroup { start, rows, length };
        assert_eq!(packed.groups, [group(0, 1, 3), group(3, 2, 2), group(7, 2, 1)]);
        assert_eq!(Vec::<i32>::try_from(&packed.ids).expect("it is flat"), [7, 8, 9, 2, 3, 5, 6, 1, 4]);
        assert_eq!(packed.tokens, 9);
    }
}

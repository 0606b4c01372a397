//! A batch as the model computes it: all tokens end to end in one flat tensor, sequences of equal length side by side.
//!
//! Linear layers, norms and activations do not care which sequence a token is of, so they run on the flat tensor as it
//! is. What does care, attention and pooling, runs once a group of equal length, on a view of the flat tensor. Nothing is
//! padded, so no time goes into padding, and no neighbour can change a row's numbers.

use tch::{Device, TchError, Tensor};

use crate::batch::TokenBatch;

pub struct Packed {
    /// Ids of all tokens, row after row in the order of `order`. `[tokens]`, 32 bits, on the device
    pub ids: Tensor,
    pub tokens: i64,
    /// Runs of rows of equal length that cover the tokens, longest first.
    pub groups: Vec<Group>,
    /// Packed row → row of the batch. Rows without tokens are not in it.
    pub order: Vec<usize>,
}

/// `rows` sequences of `length` tokens each, from token `start` of the flat tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub start: i64,
    pub rows: i64,
    pub length: i64,
}

impl Packed {
    pub fn new(batch: &TokenBatch, device: Device) -> Result<Packed, TchError> {
        let mut order: Vec<usize> = (0..batch.rows()).filter(|&row| batch.length(row) > 0).collect();
        // Batches come sorted; this is then a pass that changes nothing.
        order.sort_by_key(|&row| std::cmp::Reverse(batch.length(row)));
        let groups = groups(order.iter().map(|&row| batch.length(row)));
        let in_order = order.is_sorted();
        let ids = if in_order {
            Tensor::f_from_slice(batch.ids())?
        } else {
            let ids: Vec<i32> = order.iter().flat_map(|&row| batch.row(row)).copied().collect();
            Tensor::f_from_slice(&ids)?
        };
        Ok(Packed { ids: ids.f_to_device(device)?, tokens: batch.tokens() as i64, groups, order })
    }

    /// A group's part of a flat `[tokens, width]` tensor, as a view. `[rows, length, width]`
    pub fn view(&self, flat: &Tensor, group: Group) -> Result<Tensor, TchError> {
        flat.f_narrow(0, group.start, group.rows * group.length)?.f_view([group.rows, group.length, -1])
    }
}

fn groups(lengths: impl Iterator<Item = usize>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut start = 0;
    for length in lengths.map(|length| length as i64) {
        match groups.last_mut() {
            Some(group) if group.length == length => group.rows += 1,
            _ => groups.push(Group { start, rows: 1, length }),
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
        let packed = Packed::new(&batch, Device::Cpu).expect("a tensor of ten numbers");
        assert_eq!(packed.order, [5, 1, 4, 0, 3]);
        let group = |start, rows, length| Group { start, rows, length };
        assert_eq!(packed.groups, [group(0, 1, 3), group(3, 2, 2), group(7, 2, 1)]);
        assert_eq!(Vec::<i32>::try_from(&packed.ids).expect("it is flat"), [7, 8, 9, 2, 3, 5, 6, 1, 4]);
        assert_eq!(packed.tokens, 9);
    }
}

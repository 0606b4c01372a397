//! A tensor's memory as a slice of floats. Besides package/ this is the only file with unsafe code.
#![allow(unsafe_code, reason = "libtorch hands out its memory as a pointer only")]

use tch::{Device, Kind, Tensor};

/// Whether the loops in [`simd`](super::simd) may run on the tensor: it is in single precision and contiguous in the CPU's
/// memory, and the worker has one thread. With several threads libtorch's operations are faster, since they divide the work.
pub(super) fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.is_contiguous()
        && tch::get_num_threads() == 1
}

/// The values of a [plain](is_plain) tensor, row after row; `None` for any other tensor.
pub(super) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    if !is_plain(tensor) {
        return None;
    }
    // SAFETY: the tensor is contiguous and of f32 in the CPU's memory, so `numel` floats lie at its pointer, and they live
    // while the borrowed tensor does. Nobody writes to them meanwhile: only the worker on this thread writes to its buffers,
    // and nobody writes to weights.
    Some(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
}

/// The same values, for writing.
pub(super) fn floats_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    if !is_plain(tensor) {
        return None;
    }
    // SAFETY: as in `floats`; the tensor is borrowed mutably, and callers hold no slice of another view of its memory.
    Some(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
}

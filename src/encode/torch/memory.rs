//! A tensor's memory as a slice: with package/ the one place with unsafe code.
#![allow(unsafe_code, reason = "libtorch hands out its memory as a pointer only")]

use tch::{Device, Kind, Tensor};

/// Whether loops of our own may run on the tensor: single precision, end to end in the CPU's memory, and a worker of one
/// thread. With more, libtorch's operations divide the work.
pub fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.is_contiguous()
        && tch::get_num_threads() == 1
}

/// The numbers of a [plain](is_plain) tensor, row after row; `None` of any other.
pub fn floats(tensor: &Tensor) -> Option<&[f32]> {
    if !is_plain(tensor) {
        return None;
    }
    // SAFETY: the tensor is contiguous and of f32 in the CPU's memory, so `numel` floats lie at its pointer, and they live
    // while the borrowed tensor does. That nobody writes to them meanwhile holds because the worker whose thread this is
    // is the only one to write to its buffers, and weights are never written to.
    Some(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
}

/// The same, to be written to.
pub fn floats_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    if !is_plain(tensor) {
        return None;
    }
    // SAFETY: as in `floats`; the tensor is borrowed mutably, and callers hold no slice of another view of its memory.
    Some(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
}

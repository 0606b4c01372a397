//! What libtorch has of its own: threads, GPUs, number types, and the meaning of its error messages.

use tch::{Kind, TchError};

use crate::device::Device;
use crate::encode::EncodeError;
use crate::model::{LoadError, Precision};

/// The number of GPUs that libtorch can use.
pub(crate) fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 }
}

/// The hint that [`DeviceError::Unavailable`](crate::device::DeviceError::Unavailable) ends with.
pub(crate) fn why_no_cuda() -> &'static str {
    if tch::utils::has_cuda() { "" } else { " (libtorch was built without CUDA, or no driver is running)" }
}

/// libtorch's name for a device.
pub(super) fn device(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
    }
}

/// The type of number that a model of this precision computes in.
pub(super) fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Float32 => Kind::Float,
        Precision::Float16 => Kind::Half,
        Precision::Bfloat16 => Kind::BFloat16,
    }
}

/// Refuses a precision that the device cannot compute sensibly.
///
/// # Errors
/// For float16 on a CPU.
pub(super) fn check_precision(precision: Precision, device: Device) -> Result<(), LoadError> {
    match (precision, device) {
        (Precision::Float16, Device::Cpu) => {
            let message = "float16 is for GPUs: a CPU computes it slower than float32, and less exactly; expected float32 \
                           or bfloat16 for devices: [cpu]";
            Err(LoadError::Config { key: "model.precision", message: message.into() })
        }
        _ => Ok(()),
    }
}

/// Sets up a worker's thread before its first operation: how many threads an operation may use, and no gradients. All CPU
/// workers of a process should ask for the same number: with different ones in one process, which of the numbers a worker
/// computes with has been seen to change from run to run, and with it the last bits of its vectors.
pub(super) fn prepare_thread(device: Device, threads: usize) {
    let threads = if device == Device::Cpu { threads } else { 1 };
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    // Dropping the guard would turn gradients on again. The thread ends with its encoder, so the guard is never dropped.
    std::mem::forget(tch::no_grad_guard());
}

/// How libtorch says that memory ran out; it has no error code for it. CUDA's allocator first, then the CPU's two.
const OUT_OF_MEMORY: [&str; 3] = ["out of memory", "not enough memory", "can't allocate memory"];

/// The error of a batch of `rows` sequences with `tokens` tokens, from libtorch's message.
pub(super) fn encode_error(rows: usize, tokens: usize, message: String) -> EncodeError {
    // A C++ stack trace follows the first line; it does not help a user.
    let first = message.lines().next().unwrap_or_default().to_owned();
    if OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
        EncodeError::OutOfMemory { rows, tokens, message: first }
    } else {
        EncodeError::Failed { rows, tokens, message: first }
    }
}

/// An error's first line; a C++ stack trace may follow it.
pub(super) fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_recognised_by_its_message() {
        let is_memory = |message: &str| matches!(encode_error(1, 2, message.into()), EncodeError::OutOfMemory { .. });
        assert!(is_memory("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"));
        assert!(is_memory(
            "[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory: you"
        ));
        assert!(!is_memory("The size of tensor a (3) must match"));
    }
}

//! Threads, GPUs, and what libtorch's errors mean.

use tch::Kind;

use crate::device::Device;
use crate::encode::EncodeError;
use crate::model::{LoadError, Precision};

pub fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 }
}

/// What [`DeviceError::Unavailable`](crate::device::DeviceError::Unavailable) adds.
pub fn why_no_cuda() -> &'static str {
    if tch::utils::has_cuda() { "" } else { "; libtorch was found without CUDA, or no driver is running" }
}

pub fn torch(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
    }
}

pub fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Float32 => Kind::Float,
        Precision::Float16 => Kind::Half,
        Precision::Bfloat16 => Kind::BFloat16,
    }
}

/// Refuses what a device cannot compute sensibly.
pub fn check(precision: Precision, device: Device) -> Result<(), LoadError> {
    match (precision, device) {
        (Precision::Float16, Device::Cpu) => {
            let message = "is float16, which is for GPUs: a CPU computes it slower than float32, and less exactly; expected \
                           float32 or bfloat16 for devices: [cpu]";
            Err(LoadError::Config { key: "model.precision", message: message.into() })
        }
        _ => Ok(()),
    }
}

/// Sets a worker's thread up, before the first operation on it: how many threads its operations use, and no gradients.
/// Both hold for the calling thread alone, so workers do not get in each other's way.
pub fn prepare_thread(device: Device, threads: usize) {
    let threads = if device == Device::Cpu { threads } else { 1 };
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    // The guard would turn gradients on again when dropped; the thread ends with the encoder, so it never is.
    std::mem::forget(tch::no_grad_guard());
}

/// libtorch says that memory ran out in words only: CUDA's allocator and the CPU's, in this order.
const OUT_OF_MEMORY: [&str; 3] = ["out of memory", "not enough memory", "can't allocate memory"];

pub fn encode_error(rows: usize, tokens: usize, message: String) -> EncodeError {
    // The C++ stack trace follows the first line; it says nothing to a user.
    let first = message.lines().next().unwrap_or_default().to_owned();
    if OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
        EncodeError::OutOfMemory { rows, tokens, message: first }
    } else {
        EncodeError::Failed { rows, tokens, message: first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_apart() {
        let is_memory = |message: &str| matches!(encode_error(1, 2, message.into()), EncodeError::OutOfMemory { .. });
        assert!(is_memory("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"));
        assert!(is_memory(
            "[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory: you"
        ));
        assert!(!is_memory("The size of tensor a (3) must match"));
    }
}

//! The devices that this process can use, and which of them a pipeline's workers are started on.

use super::torch;
use crate::device::{Device, DeviceError, Devices};

/// The devices to start workers on. Asks the machine which exist, before any data moves.
///
/// # Errors
/// If one is not there.
pub fn resolve(devices: &Devices) -> Result<Vec<Device>, DeviceError> {
    resolve_among(devices, &available(), usable_cores())
}

fn resolve_among(devices: &Devices, available: &[Device], cores: usize) -> Result<Vec<Device>, DeviceError> {
    let devices = match devices {
        Devices::Auto => {
            let gpus: Vec<Device> = available.iter().copied().filter(|device| *device != Device::Cpu).collect();
            if gpus.is_empty() { vec![Device::Cpu; cores.min(CPU_WORKERS_MAX)] } else { gpus }
        }
        Devices::List(devices) => devices.clone(),
    };
    match devices.iter().find(|device| !available.contains(device)) {
        Some(device) => Err(DeviceError::NotThere {
            device: *device,
            available: available.iter().map(Device::to_string).collect::<Vec<_>>().join(", "),
            why: torch::why_no_cuda(),
        }),
        None => Ok(devices),
    }
}

/// Every device that this process can use, the CPU first.
pub fn available() -> Vec<Device> {
    std::iter::once(Device::Cpu).chain((0..torch::cuda_devices()).map(Device::Cuda)).collect()
}

/// Most workers that `auto` starts on a CPU. Workers of one thread never wait for each other within an operation, which
/// made two of them 15 % faster than one with two threads; but each works on a batch of its own, and a window has only so
/// many. With more cores than this, each worker gets several threads.
const CPU_WORKERS_MAX: usize = 8;

/// Cores to compute on: physical ones, because two hyper-threads of a core share its vector units and only get in each
/// other's way in a matrix product; but never more than the process may use (affinity, cgroup quota).
fn usable_cores() -> usize {
    num_cpus::get().min(num_cpus::get_physical()).max(1)
}

/// Threads of each of `workers` workers on the CPU: the usable cores, shared out evenly.
pub fn threads_per_worker(workers: usize) -> usize {
    (usable_cores() / workers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_devices_that_are_there() {
        let machine = [Device::Cpu, Device::Cuda(0), Device::Cuda(1)];
        let check = |names: &[&str], available: &[Device], expected: &str| {
            let found = match Devices::parse(names).and_then(|devices| resolve_among(&devices, available, 2)) {
                Ok(devices) => devices.iter().map(Device::to_string).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert!(found.starts_with(expected), "{names:?}: {found}");
        };
        check(&["auto"], &machine, "cuda:0 cuda:1");
        check(&["auto"], &machine[..1], "cpu cpu");
        check(&["cpu", "cpu"], &machine, "cpu cpu");
        check(&["cuda", "cpu"], &machine, "cuda:0 cpu");
        check(&[], &machine, "devices is empty");
        check(&["gpu"], &machine, "devices: `gpu` is no device; there are auto, cpu and cuda:N");
        check(&["cuda:"], &machine, "devices: `cuda:` is no device");
        check(&["cuda:-1"], &machine, "devices: `cuda:-1` is no device");
        check(&["cuda:99999999999999999999999"], &machine, "devices: `cuda:99999999999999999999999` is no device");
        check(&["auto", "cpu"], &machine, "devices: `auto` stands for all GPUs");
        check(&["cuda:1", "cuda:1"], &machine, "devices: cuda:1 is named twice");
        check(&["cuda:2"], &machine, "devices: cuda:2 is not there; this process can use cpu, cuda:0, cuda:1");
    }

    #[test]
    fn cores_are_shared_out() {
        assert!(threads_per_worker(0) >= 1);
        assert_eq!(threads_per_worker(1_000_000), 1);
    }
}

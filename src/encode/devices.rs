//! [`Devices`] of the pipeline file in, the devices to start workers on out. This is where the machine is asked which devices
//! exist. Fails if a listed device is not among them.

use super::torch;
use crate::device::{Device, DeviceError, Devices};

/// The devices to start workers on, one worker each. Asks the machine which devices exist, before any data moves.
///
/// # Errors
/// If a listed device is not available.
pub(crate) fn resolve(devices: &Devices) -> Result<Vec<Device>, DeviceError> {
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
        Some(device) => Err(DeviceError::Unavailable {
            device: *device,
            available: available.iter().map(Device::to_string).collect::<Vec<_>>().join(", "),
            why: torch::why_no_cuda(),
        }),
        None => Ok(devices),
    }
}

/// Every device that this process can use, the CPU first.
pub(crate) fn available() -> Vec<Device> {
    std::iter::once(Device::Cpu).chain((0..torch::cuda_devices()).map(Device::Cuda)).collect()
}

/// Maximum number of CPU workers that `auto` starts. Workers of one thread never wait for each other within an operation, which
/// made two of them 15 % faster than one with two threads. But each of them works on its own batch, and a window has only a
/// few batches. With more cores than this, each worker gets several threads.
const CPU_WORKERS_MAX: usize = 8;

/// The number of cores to compute on: physical ones, because two hyper-threads of a core share its vector units and slow each
/// other down in a matrix product; but never more than the process may use (affinity, cgroup quota).
fn usable_cores() -> usize {
    num_cpus::get().min(num_cpus::get_physical()).max(1)
}

/// The number of threads of each of `workers` CPU workers: the usable cores, divided evenly, and at least 1.
pub(crate) fn threads_per_worker(workers: usize) -> usize {
    (usable_cores() / workers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_available_devices() {
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
        check(&[], &machine, "empty; expected auto, or a list");
        check(&["gpu"], &machine, "unknown device \"gpu\"; expected auto, cpu or cuda:N");
        check(&["cuda:"], &machine, "unknown device \"cuda:\"; expected");
        check(&["cuda:-1"], &machine, "unknown device \"cuda:-1\"; expected");
        check(&["cuda:99999999999999999999999"], &machine, "unknown device \"cuda:99999999999999999999999\"; expected");
        check(&["auto", "cpu"], &machine, "found auto in a list; expected it alone, since it stands for all GPUs");
        check(&["cuda:1", "cuda:1"], &machine, "duplicate device cuda:1");
        check(&["cuda:2"], &machine, "cuda:2 is not available; expected one of cpu, cuda:0, cuda:1");
    }

    #[test]
    fn cores_are_divided_among_workers() {
        assert!(threads_per_worker(0) >= 1);
        assert_eq!(threads_per_worker(1_000_000), 1);
    }
}

//! Devices: their names in, the ones to use out.
//!
//! A list of names is read without asking the machine ([`Devices::parse`]), and turned into devices that exist
//! ([`Devices::resolve`]) before any data moves. `cpu` may stand in a list several times, for several workers; a GPU may
//! not, because a second copy of the model on it only costs memory.

use std::fmt;
use std::str::FromStr;

use super::torch;

/// Where a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    Cpu,
    /// A CUDA device by its number, as CUDA_VISIBLE_DEVICES leaves them.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match (name, name.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Device::Cuda).map_err(|_| DeviceError::Unknown { name: name.into() })
            }
            _ => Err(DeviceError::Unknown { name: name.into() }),
        }
    }
}

/// `devices:` of the pipeline file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// All GPUs; where there are none, the CPU with a worker a core.
    Auto,
    List(Vec<Device>),
}

impl Devices {
    /// Reads names without asking the machine: `auto` alone, or a list of devices.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Devices, DeviceError> {
        if names.is_empty() {
            return Err(DeviceError::None);
        }
        if names.iter().any(|name| name.as_ref() == "auto") {
            return if names.len() == 1 { Ok(Devices::Auto) } else { Err(DeviceError::AutoAndOthers) };
        }
        let devices = names.iter().map(|name| name.as_ref().parse()).collect::<Result<Vec<Device>, _>>()?;
        let twice = devices
            .iter()
            .enumerate()
            .find(|(index, device)| matches!(device, Device::Cuda(_)) && devices[..*index].contains(device));
        match twice {
            Some((_, device)) => Err(DeviceError::Twice { device: *device }),
            None => Ok(Devices::List(devices)),
        }
    }

    /// The devices to start workers on. Asks the machine which there are, and refuses one that is not.
    pub fn resolve(&self) -> Result<Vec<Device>, DeviceError> {
        self.resolve_among(&available(), usable_cores())
    }

    fn resolve_among(&self, available: &[Device], cores: usize) -> Result<Vec<Device>, DeviceError> {
        let devices = match self {
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("devices is empty; give `auto`, or a list such as [cpu] or [cuda:0, cuda:1]")]
    None,
    #[error("devices: `{name}` is no device; there are auto, cpu and cuda:N, N counted from 0")]
    Unknown { name: String },
    #[error("devices: `auto` stands for all GPUs or else the CPU; name nothing beside it")]
    AutoAndOthers,
    #[error("devices: {device} is named twice; only cpu may be, for several workers")]
    Twice { device: Device },
    #[error("devices: {device} is not there; this process can use {available}{why}")]
    NotThere { device: Device, available: String, why: &'static str },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_devices_that_are_there() {
        let machine = [Device::Cpu, Device::Cuda(0), Device::Cuda(1)];
        let check = |names: &[&str], available: &[Device], expected: &str| {
            let found = match Devices::parse(names).and_then(|devices| devices.resolve_among(available, 2)) {
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

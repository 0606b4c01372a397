//! Names of devices: read from the pipeline file without asking the machine which of them exist.
//!
//! `cpu` may stand in a list several times, for several workers; a GPU may not, because a second copy of the model on it
//! only costs memory.

use std::fmt;
use std::str::FromStr;

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
}

/// Why a list of devices is refused.
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

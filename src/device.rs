//! The names of devices in the pipeline file in, [`Devices`] out, without asking the machine which devices exist.
//!
//! A list may contain `cpu` several times, for several workers. It may not contain a GPU twice, because a second copy of the
//! model on it only costs memory.

use std::fmt;
use std::str::FromStr;

/// The device that a worker runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A CUDA device by its index among those that CUDA_VISIBLE_DEVICES makes visible.
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

/// `devices:` of the pipeline file, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// All GPUs; without a GPU, the CPU with one worker per core.
    Auto,
    /// These devices, one worker each.
    List(Vec<Device>),
}

impl Devices {
    /// Parses `auto` alone, or a list of device names.
    ///
    /// # Errors
    /// If the list is empty, has an unknown name, has a GPU twice, or has `auto` beside other names.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Devices, DeviceError> {
        if names.is_empty() {
            return Err(DeviceError::Empty);
        }
        if names.iter().any(|name| name.as_ref() == "auto") {
            return if names.len() == 1 { Ok(Devices::Auto) } else { Err(DeviceError::AutoInList) };
        }
        let devices = names.iter().map(|name| name.as_ref().parse()).collect::<Result<Vec<Device>, _>>()?;
        let duplicate = devices
            .iter()
            .enumerate()
            .find(|(index, device)| matches!(device, Device::Cuda(_)) && devices[..*index].contains(device));
        match duplicate {
            Some((_, device)) => Err(DeviceError::Duplicate { device: *device }),
            None => Ok(Devices::List(devices)),
        }
    }
}

/// Why `devices:` is refused. The messages do not name the key; whoever shows them does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The list has no device.
    #[error("empty; expected auto, or a list such as [cpu] or [cuda:0, cuda:1]")]
    Empty,
    /// A name that does not name a device.
    #[error("unknown device {name:?}; expected auto, cpu or cuda:N, with N counted from 0")]
    Unknown { name: String },
    /// `auto` beside other names.
    #[error("found auto in a list; expected it alone, since it stands for all GPUs or else the CPU")]
    AutoInList,
    /// A GPU that is listed twice.
    #[error("duplicate device {device}; expected each GPU once (only cpu may be repeated, for several workers)")]
    Duplicate { device: Device },
    /// A device that this process cannot use. `why` is empty, or a reason that begins with its own separator.
    #[error("{device} is not available; expected one of {available}{why}")]
    Unavailable { device: Device, available: String, why: &'static str },
}

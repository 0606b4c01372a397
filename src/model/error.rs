//! Why a model cannot be loaded.

use std::path::{Path, PathBuf};

use super::hub::HubError;
use crate::device::{Device, DeviceError};
use crate::failure::Failure;

/// Why a model cannot be loaded. Every cause is found before any data moves. Each message begins with what it is about: the
/// pipeline key, the file, the hub's endpoint or the device.
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A value of the pipeline file that no model supports, or that this model does not support.
    #[error("{key}: {message}")]
    Config { key: &'static str, message: String },
    /// The model id cannot be resolved to a folder.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A file or folder of the model. The message names the key, what was found and what was expected.
    #[error("{}: {message}", path.display())]
    Model { path: PathBuf, message: String },
    /// A device of the pipeline file.
    #[error("devices: {0}")]
    Device(DeviceError),
    /// The backend failed while it loaded the model on a device.
    #[error("{device}: the model cannot be loaded: {message}")]
    Load { device: Device, message: String },
}

impl From<DeviceError> for LoadError {
    // Without `#[from]`, which would make it the source: its message is in this one already.
    fn from(error: DeviceError) -> Self {
        LoadError::Device(error)
    }
}

impl LoadError {
    pub(crate) fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        LoadError::Model { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// Whether a retry can help.
    pub fn failure(&self) -> Failure {
        match self {
            LoadError::Hub(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

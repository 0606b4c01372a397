//! Why a model cannot be loaded.

use std::path::{Path, PathBuf};

use super::hub;
use crate::device::{Device, DeviceError};
use crate::failure::Failure;

/// Why a model cannot be loaded. Each is found before any data moves.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A value of the pipeline file that no model can satisfy, or not this one.
    #[error("{key} {message}")]
    Config { key: &'static str, message: String },
    #[error(transparent)]
    Hub(#[from] hub::HubError),
    /// A file of the model folder: its key, what was expected and what was found.
    #[error("{}: {message}", path.display())]
    Model { path: PathBuf, message: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("loading the model on {device} failed: {message}")]
    Load { device: Device, message: String },
}

impl LoadError {
    pub(crate) fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        LoadError::Model { path: path.as_ref().to_owned(), message: message.into() }
    }

    pub fn failure(&self) -> Failure {
        match self {
            LoadError::Hub(error) => error.failure(),
            _ => Failure::Fatal,
        }
    }
}

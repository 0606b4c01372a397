//! What resolving a model id takes and returns: the hub's settings, the progress of a download, and the model's folder.

use std::fmt;
use std::path::PathBuf;

/// What the environment and the pipeline file say about the hub.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The address of the hub: `https://huggingface.co`, or a mirror.
    pub endpoint: String,
    /// The access token, if there is one.
    pub token: Option<Secret>,
    /// The folder of the cache, which holds a folder `models--…` per model.
    pub cache: PathBuf,
    /// Whether to use only the cache, never the network.
    pub offline: bool,
}

/// A value that `Debug` does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Receives the progress of a download. It is called often, from the thread that downloads.
pub trait DownloadProgress {
    /// `file` is being downloaded. Both numbers are totals over all files of the model that have to be downloaded.
    fn update(&self, file: &str, bytes_done: u64, bytes_total: u64);
}

/// Ignores the progress.
impl DownloadProgress for () {
    fn update(&self, _file: &str, _bytes_done: u64, _bytes_total: u64) {}
}

/// A model's folder on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// The path as the user gave it, or the complete model id.
    pub id: String,
    /// The commit of a model id; `None` for a path.
    pub revision: Option<String>,
}

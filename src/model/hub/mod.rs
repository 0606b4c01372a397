//! A model id in, its folder out: the path of a folder as it is, a snapshot in the cache, or a download from a Hugging Face
//! hub.
//!
//! A download fetches only the files that a model needs, at one commit, into the cache that Hugging Face's own tools share.
//! Each file is checked against the size and hash that the hub states. A branch name is recorded in the cache only once its
//! snapshot is complete, so an interrupted download is never taken for a model. Everything here blocks.
//!
//! Fails with a [`HubError`], which tells apart whether the network, the model, the permission or readable weights are missing,
//! and says what to do. A token is never printed.

mod download;
mod error;
mod repository;
mod settings;

use std::path::Path;

use download::Download;
pub use error::HubError;
use repository::{ModelRepository, is_name};
pub use settings::{DownloadProgress, HubSettings, ModelFolder, Secret};

/// Resolves a model: an existing folder, else a model id, from the hub or the cache. A name without an organisation belongs to
/// `sentence-transformers`, as in that library.
///
/// # Errors
/// If it is neither a folder nor a valid id, or if the model cannot be downloaded and is not in the cache either.
pub fn resolve(
    id: &str,
    revision: &str,
    settings: &HubSettings,
    progress: &dyn DownloadProgress,
) -> Result<ModelFolder, HubError> {
    if Path::new(id).is_dir() {
        return Ok(ModelFolder { path: id.into(), id: id.into(), revision: None });
    }
    if id.starts_with(['.', '/', '~']) || id.contains('\\') || id.matches('/').count() > 1 {
        return Err(HubError::NoFolder { path: id.into() });
    }
    let repository = ModelRepository::new(id, revision, settings)?;
    if settings.offline {
        return repository.find_in_cache().map_err(|missing| repository.offline_error(missing));
    }
    match fetch(&repository, progress) {
        Err(HubError::Network { endpoint, message }) => match repository.find_in_cache() {
            Ok(folder) => {
                tracing::warn!(%endpoint, %message, model = folder.id, "hub unreachable, using the cached model");
                Ok(folder)
            }
            Err(_) => {
                let message = format!("{message}, while looking up model {id:?}, which is not a local folder");
                Err(HubError::Network { endpoint, message })
            }
        },
        result => result,
    }
}

/// The model as the hub has it now. Only files that the cache lacks are downloaded.
fn fetch(repository: &ModelRepository<'_>, progress: &dyn DownloadProgress) -> Result<ModelFolder, HubError> {
    let api = repository.api()?;
    let info = repository.info(&api)?;
    if !is_name(&info.sha) || info.sha.contains('/') {
        return Err(repository.unexpected_response(format!("invalid commit {:?}", info.sha)));
    }
    Download::new(repository, &api, &info, progress).run()?;
    repository.record_revision(&info.sha)?;
    Ok(repository.folder(&info.sha))
}

//! One model's repository at a revision: what the hub says about it, and its snapshots in the cache.

use std::io::ErrorKind;
use std::path::PathBuf;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::error::HubError;
use super::settings::{HubSettings, ModelFolder};
use crate::model::files::{self, stays_inside};
use crate::model::modules_json::ModulePaths;

/// A model's repository at a revision.
pub(super) struct ModelRepository<'a> {
    /// The complete model id.
    pub id: String,
    /// The branch, tag or commit as the user gave it.
    pub revision: &'a str,
    pub settings: &'a HubSettings,
    endpoint: String,
}

/// What the hub says about a model at a revision.
#[derive(Deserialize)]
pub(super) struct RepositoryInfo {
    /// The commit.
    pub sha: String,
    /// All files at that commit.
    pub siblings: Vec<RepositoryFile>,
}

/// A file of a repository, as the hub lists it.
#[derive(Deserialize)]
pub(super) struct RepositoryFile {
    /// Its path in the repository.
    pub rfilename: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The hash of its git object, which names the cached content of a small file.
    #[serde(rename = "blobId")]
    pub blob_id: Option<String>,
    /// What git LFS knows about it, if it is a large file.
    pub lfs: Option<LfsFile>,
}

/// A file that the hub keeps in git LFS.
#[derive(Deserialize)]
pub(super) struct LfsFile {
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: Option<String>,
}

/// How often an interrupted download of a file is resumed before it fails.
const RETRIES: usize = 3;
/// Maximum length of an id or a revision. Longer ones are not names, and would not fit a file name.
const NAME_BYTES_MAX: usize = 200;

/// Whether a model id, revision or file name has only allowed characters, and stays inside the folder that it is joined to.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(allowed) && stays_inside(name)
}

impl<'a> ModelRepository<'a> {
    /// The repository of a model id.
    ///
    /// # Errors
    /// If the id, the revision or the endpoint is invalid.
    pub(super) fn new(id: &str, revision: &'a str, settings: &'a HubSettings) -> Result<ModelRepository<'a>, HubError> {
        let full_id = if id.contains('/') { id.to_owned() } else { format!("sentence-transformers/{id}") };
        if !is_name(&full_id) {
            return Err(HubError::InvalidName { key: "model.id", name: id.into() });
        }
        if !is_name(revision) {
            return Err(HubError::InvalidName { key: "model.revision", name: revision.into() });
        }
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if !host
            .is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"@?#".contains(c)))
        {
            return Err(HubError::InvalidEndpoint { endpoint: settings.endpoint.clone() });
        }
        Ok(ModelRepository { id: full_id, revision, settings, endpoint })
    }

    /// The repository at another revision, for the hub's client.
    pub(super) fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }

    /// The cache, for the hub's client.
    pub(super) fn cache(&self) -> Cache {
        Cache::new(self.settings.cache.clone())
    }

    /// The folder of a commit's snapshot in the cache. It may not exist.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache().repo(self.at(commit)).pointer_path(commit)
    }

    /// The model's folder at a commit, which the cache has.
    pub(super) fn folder(&self, commit: &str) -> ModelFolder {
        ModelFolder { path: self.snapshot(commit), id: self.id.clone(), revision: Some(commit.into()) }
    }

    /// The model as the cache has it.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(super) fn find_in_cache(&self) -> Result<ModelFolder, String> {
        let cached = self.settings.cache.join(self.at(self.revision).folder_name());
        let reference = cached.join("refs").join(self.revision);
        // A revision that is a commit has no reference in the cache, but a snapshot of that name.
        let commit = std::fs::read_to_string(&reference).unwrap_or_else(|_| self.revision.into());
        let commit = commit.trim();
        if !is_name(commit) || !self.snapshot(commit).is_dir() {
            return Err(format!("no revision {:?} in {}", self.revision, cached.display()));
        }
        let folder = self.folder(commit);
        let ModulePaths { transformers, modules } =
            ModulePaths::read(&folder.path).map_err(|error| error.to_string())?;
        for transformer in transformers.iter().map(|path| folder.path.join(path)) {
            let has = |file: &str| transformer.join(file).is_file();
            // Some tokenizers need only a vocab.txt; loading the tokenizer decides whether this one does.
            let tokenizer = if has("vocab.txt") { "vocab.txt" } else { "tokenizer.json" };
            if let Some(missing) = ["config.json", tokenizer].into_iter().find(|file| !has(file)) {
                return Err(format!("{} is missing", transformer.join(missing).display()));
            }
            files::weights(&transformer).map_err(|error| error.to_string())?;
        }
        for module in modules.iter().filter(|module| module.has_weights) {
            files::weights(&folder.path.join(&module.path)).map_err(|error| error.to_string())?;
        }
        Ok(folder)
    }

    /// Records in the cache that the revision is this commit.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub(super) fn record_revision(&self, commit: &str) -> Result<(), HubError> {
        let recorded = self.cache().repo(self.at(self.revision)).create_ref(commit);
        recorded.map_err(|error| self.cache_error(error.to_string()))
    }

    /// The client of the hub.
    ///
    /// # Errors
    /// If the client cannot be built.
    pub(super) fn api(&self) -> Result<Api, HubError> {
        let builder = ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.settings.token.as_ref().map(|token| token.expose().to_owned()))
            .with_progress(false)
            .with_retries(RETRIES)
            .with_user_agent("embedmill", env!("CARGO_PKG_VERSION"));
        builder.build().map_err(|error| self.error(&error, None))
    }

    /// Asks the hub about the model at the revision.
    ///
    /// # Errors
    /// If the hub cannot be reached, refuses, or answers with something unexpected.
    pub(super) fn info(&self, api: &Api) -> Result<RepositoryInfo, HubError> {
        // `blobs` makes the hub add each file's size and hash. A mirror that does not know the parameter leaves them out.
        let request = api.repo(self.at(self.revision)).info_request().query("blobs", "true");
        let response = request.call().map_err(|error| self.error(&ApiError::RequestError(Box::new(error)), None))?;
        let body = response.into_body().read_to_string();
        let body = body.map_err(|error| self.error(&ApiError::RequestError(Box::new(error)), None))?;
        serde_json::from_str(&body).map_err(|error| self.unexpected_response(error.to_string()))
    }

    /// The error of a model that the cache lacks while the network is disabled.
    pub(super) fn offline_error(&self, missing: String) -> HubError {
        HubError::Offline { id: self.id.clone(), missing, cache: self.settings.cache.clone() }
    }

    /// The error of a response that makes no sense.
    pub(super) fn unexpected_response(&self, message: String) -> HubError {
        HubError::UnexpectedResponse { endpoint: self.endpoint.clone(), id: self.id.clone(), message }
    }

    /// The error of a cache that cannot be used.
    pub(super) fn cache_error(&self, message: String) -> HubError {
        HubError::Cache { path: self.settings.cache.clone(), message }
    }

    /// What an error of the hub's client means. `file` is the requested file, if one was requested.
    pub(super) fn error(&self, error: &ApiError, file: Option<&str>) -> HubError {
        let (id, endpoint) = (self.id.clone(), self.endpoint.clone());
        let request = match error {
            ApiError::RequestError(request) => request.to_string(),
            ApiError::IoError(error) if is_disk_error(error.kind()) => return self.cache_error(error.to_string()),
            // The client uses one error for reading the body and for writing the file. What is not the disk's is the
            // connection's.
            ApiError::IoError(error) => error.to_string(),
            ApiError::TooManyRetries(inner) => return self.error(inner, file),
            other => return self.unexpected_response(other.to_string()),
        };
        // The type of the client's own error is not exported, so its text has to tell the status.
        match request.strip_prefix("http status: ").map(str::trim) {
            Some("401" | "403") if self.settings.token.is_some() => HubError::Forbidden { id, endpoint },
            Some("401" | "403") => HubError::TokenNeeded { id, endpoint },
            Some("404") => match file {
                Some(file) => self.unexpected_response(format!("it lists {file:?} but does not have it")),
                None => HubError::NotFound { id, revision: self.revision.into(), endpoint },
            },
            _ => HubError::Network { endpoint, message: request },
        }
    }
}

fn is_disk_error(kind: ErrorKind) -> bool {
    use ErrorKind::{
        AlreadyExists, FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    let disk = [
        AlreadyExists,
        FileTooLarge,
        IsADirectory,
        NotADirectory,
        NotFound,
        PermissionDenied,
        QuotaExceeded,
        ReadOnlyFilesystem,
        StorageFull,
    ];
    disk.contains(&kind)
}

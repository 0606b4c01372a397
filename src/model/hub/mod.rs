//! A model id in, its folder out: a path as it is, the cache, or a download from a Hugging Face hub.
//!
//! Only the files that a model needs are fetched, into the cache that Hugging Face's own tools share, at one commit, and
//! each is held against the size and hash that the hub gave. A branch name is written to the cache only once its commit
//! is there whole, so an interrupted download is never taken for a model. Everything here blocks.
//!
//! No network, no such model, no permission and no weights that can be read are told apart, each with what to do. A token
//! is never printed.

mod download;
mod error;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::files::{self, stays_inside};
use super::modules_json::ModulePaths;
use download::{Download, RETRIES, RepoInfo};
pub use error::HubError;

/// What the environment and the pipeline file say about the hub.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Where the hub is: `https://huggingface.co`, or a mirror.
    pub endpoint: String,
    pub token: Option<Secret>,
    /// The cache's folder, which holds `models--…` folders.
    pub cache: PathBuf,
    /// Use the cache alone.
    pub offline: bool,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Told how far a download is; called often, from the calling thread.
pub trait Progress {
    /// `file` is on its way; the numbers are over all files of the model that have to be fetched.
    fn update(&self, file: &str, bytes_done: u64, bytes_total: u64);
}

/// Nobody watches.
impl Progress for () {
    fn update(&self, _file: &str, _bytes_done: u64, _bytes_total: u64) {}
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFolder {
    pub path: PathBuf,
    /// The path as it was given, or the model id in full.
    pub id: String,
    /// The commit of a model id; a folder has none.
    pub revision: Option<String>,
}

/// Finds the model: an existing folder, else a model id, from the hub or the cache. A name without an organisation is
/// sentence-transformers' own, as it is there.
pub fn resolve(
    id: &str,
    revision: &str,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<ModelFolder, HubError> {
    if Path::new(id).is_dir() {
        return Ok(ModelFolder { path: id.into(), id: id.into(), revision: None });
    }
    if id.starts_with(['.', '/', '~']) || id.contains('\\') || id.matches('/').count() > 1 {
        return Err(HubError::NoFolder { path: id.into() });
    }
    let model = Model::new(id, revision, settings)?;
    if settings.offline {
        return model.find_in_cache().map_err(|missing| model.offline_error(missing));
    }
    match model.fetch_from_hub(progress) {
        Err(HubError::Network { endpoint, message }) => match model.find_in_cache() {
            Ok(folder) => {
                tracing::warn!(%endpoint, %message, model = folder.id, "the hub cannot be reached; using the cache");
                Ok(folder)
            }
            Err(_) => {
                let message = format!("{message}, to ask for the model {id}, which is no folder here");
                Err(HubError::Network { endpoint, message })
            }
        },
        result => result,
    }
}

/// A model id with where to look for it.
struct Model<'a> {
    id: String,
    revision: &'a str,
    settings: &'a HubSettings,
    endpoint: String,
}

/// Longest id or revision; longer ones are no names, and would not fit a file name.
const NAME_BYTES_MAX: usize = 200;

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(allowed) && stays_inside(name)
}

impl<'a> Model<'a> {
    fn new(id: &str, revision: &'a str, settings: &'a HubSettings) -> Result<Model<'a>, HubError> {
        let full = if id.contains('/') { id.to_owned() } else { format!("sentence-transformers/{id}") };
        if !is_name(&full) {
            return Err(HubError::Id { id: id.into(), what: "model id" });
        }
        if !is_name(revision) {
            return Err(HubError::Id { id: revision.into(), what: "revision" });
        }
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if !host
            .is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"@?#".contains(c)))
        {
            return Err(HubError::Endpoint { endpoint: settings.endpoint.clone() });
        }
        Ok(Model { id: full, revision, settings, endpoint })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }

    fn cache(&self) -> Cache {
        Cache::new(self.settings.cache.clone())
    }

    /// The folder of a commit in the cache; it may not exist.
    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache().repo(self.repo(commit)).pointer_path(commit)
    }

    fn found(&self, commit: &str) -> ModelFolder {
        ModelFolder { path: self.snapshot(commit), id: self.id.clone(), revision: Some(commit.into()) }
    }

    /// The model as the cache has it; an error says what is missing.
    fn find_in_cache(&self) -> Result<ModelFolder, String> {
        let folder = self.settings.cache.join(self.repo(self.revision).folder_name());
        let name = folder.join("refs").join(self.revision);
        // A revision that is a commit has no name in the cache; its folder is found by itself.
        let commit = std::fs::read_to_string(&name).unwrap_or_else(|_| self.revision.into());
        let commit = commit.trim();
        if !is_name(commit) || !self.snapshot(commit).is_dir() {
            return Err(format!("there is no {} in {}", self.revision, folder.display()));
        }
        let found = self.found(commit);
        let ModulePaths { transformers, modules } =
            ModulePaths::read(&found.path).map_err(|error| error.to_string())?;
        for place in transformers {
            let place = found.path.join(place);
            let has = |file: &str| place.join(file).is_file();
            // A vocabulary is enough for some, which loading it decides.
            let tokenizer = if has("vocab.txt") { "vocab.txt" } else { "tokenizer.json" };
            if let Some(missing) = ["config.json", tokenizer].into_iter().find(|file| !has(file)) {
                return Err(format!("{} is missing", place.join(missing).display()));
            }
            files::weights(&place).map_err(|error| error.to_string())?;
        }
        for place in modules.iter().filter(|module| module.has_weights).map(|module| found.path.join(&module.path)) {
            files::weights(&place).map_err(|error| error.to_string())?;
        }
        Ok(found)
    }

    fn offline_error(&self, missing: String) -> HubError {
        HubError::Offline { id: self.id.clone(), missing, cache: self.settings.cache.clone() }
    }

    /// The model as the hub has it now; only what the cache lacks is fetched.
    fn fetch_from_hub(&self, progress: &dyn Progress) -> Result<ModelFolder, HubError> {
        let api = self.api()?;
        let info = self.info(&api)?;
        if !is_name(&info.sha) || info.sha.contains('/') {
            return Err(self.odd_answer(format!("its commit is {:?}", info.sha)));
        }
        Download::new(self, &api, &info, progress).run()?;
        let named = self.cache().repo(self.repo(self.revision)).create_ref(&info.sha);
        named.map_err(|error| self.cache_error(error.to_string()))?;
        Ok(self.found(&info.sha))
    }

    fn api(&self) -> Result<Api, HubError> {
        let builder = ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.settings.token.as_ref().map(|token| token.expose().to_owned()))
            .with_progress(false)
            .with_retries(RETRIES)
            .with_user_agent("embedmill", env!("CARGO_PKG_VERSION"));
        builder.build().map_err(|error| self.error(&error, None))
    }

    fn info(&self, api: &Api) -> Result<RepoInfo, HubError> {
        // `blobs` makes the hub add each file's size and hash; a mirror that does not know it leaves them out.
        let request = api.repo(self.repo(self.revision)).info_request().query("blobs", "true");
        let response = request.call().map_err(|error| self.error(&ApiError::RequestError(Box::new(error)), None))?;
        let body = response.into_body().read_to_string();
        let body = body.map_err(|error| self.error(&ApiError::RequestError(Box::new(error)), None))?;
        serde_json::from_str(&body).map_err(|error| self.odd_answer(error.to_string()))
    }

    fn odd_answer(&self, message: String) -> HubError {
        HubError::Answer { endpoint: self.endpoint.clone(), id: self.id.clone(), message }
    }

    fn cache_error(&self, message: String) -> HubError {
        HubError::Cache { path: self.settings.cache.clone(), message }
    }

    /// What an error of the hub's client means. `file` is the one that was asked for, if any.
    fn error(&self, error: &ApiError, file: Option<&str>) -> HubError {
        let (id, endpoint) = (self.id.clone(), self.endpoint.clone());
        let request = match error {
            ApiError::RequestError(request) => request.to_string(),
            ApiError::IoError(error) if is_of_the_disk(error.kind()) => return self.cache_error(error.to_string()),
            // Reading the body and writing the file are one error to the client: what is no disk's is the connection's.
            ApiError::IoError(error) => error.to_string(),
            ApiError::TooManyRetries(inner) => return self.error(inner, file),
            other => return self.odd_answer(other.to_string()),
        };
        // The client's own error type is not exported; its words for a status are these.
        match request.strip_prefix("http status: ").map(str::trim) {
            Some("401" | "403") if self.settings.token.is_some() => HubError::Forbidden { id, endpoint },
            Some("401" | "403") => HubError::TokenNeeded { id, endpoint },
            Some("404") => match file {
                Some(file) => self.odd_answer(format!("it lists {file} and does not have it")),
                None => HubError::NotFound { id, revision: self.revision.into(), endpoint },
            },
            _ => HubError::Network { endpoint, message: request },
        }
    }
}

fn is_of_the_disk(kind: ErrorKind) -> bool {
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

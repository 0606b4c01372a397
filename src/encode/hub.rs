//! A model id in, its folder out: a path as it is, the cache, or a download from a Hugging Face hub.
//!
//! Only the files that a model needs are fetched, into the cache that Hugging Face's own tools share, at one commit, and
//! each is held against the size and hash that the hub gave. A branch name is written to the cache only once its commit
//! is there whole, so an interrupted download is never taken for a model. Everything here blocks.
//!
//! No network, no such model, no permission and no weights that can be read are told apart, each with what to do. A token
//! is never printed.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::folder::{self, CONVERT, ConfigFile, WEIGHTS, WEIGHTS_INDEX, stays_inside};
use super::router::{self, Places, beside};
use crate::failure::Failure;

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

/// What the hub says about a model at a revision.
#[derive(Deserialize)]
struct RepoInfo {
    sha: String,
    siblings: Vec<RepoFile>,
}

#[derive(Deserialize)]
struct RepoFile {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

/// A file that the hub keeps outside git; its hash is of its content.
#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
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
        let Places { transformers, modules } = Places::read(&found.path).map_err(|error| error.to_string())?;
        for place in transformers {
            let place = found.path.join(place);
            for file in ["config.json", "tokenizer.json"] {
                if !place.join(file).is_file() {
                    return Err(format!("{} is missing", place.join(file).display()));
                }
            }
            folder::weights(&place).map_err(|error| error.to_string())?;
        }
        for place in modules.iter().filter(|module| module.weighs).map(|module| found.path.join(&module.place)) {
            folder::weights(&place).map_err(|error| error.to_string())?;
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
        let mut download = Download {
            model: self,
            repo: api.repo(self.repo(&info.sha)),
            snapshot: self.snapshot(&info.sha),
            info: &info,
            progress,
            bytes_done: 0,
            bytes_total: 0,
        };
        download.run()?;
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

/// How often a file that broke off is continued before giving up.
const RETRIES: usize = 3;
/// How long to wait for another process that is fetching the same file.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// One model's files on their way into the cache.
struct Download<'a> {
    model: &'a Model<'a>,
    repo: ApiRepo,
    snapshot: PathBuf,
    info: &'a RepoInfo,
    progress: &'a dyn Progress,
    bytes_done: u64,
    bytes_total: u64,
}

/// Files beside the transformer's weights that say how it is used; those that there are get fetched.
const TRANSFORMER_FILES: [&str; 11] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

impl<'a> Download<'a> {
    fn run(&mut self) -> Result<(), HubError> {
        self.fetch_all(&["modules.json", "config_sentence_transformers.json"].map(str::to_owned))?;
        let odd = |error: super::LoadError| self.model.odd_answer(error.to_string());
        let listed = router::listed(&self.snapshot).map_err(odd)?.unwrap_or_default();
        let routers: Vec<String> = listed.iter().filter_map(router::router_files).flatten().collect();
        self.fetch_all(&routers)?;
        let places = Places::read(&self.snapshot).map_err(|error| self.model.odd_answer(error.to_string()))?;
        let mut wanted = Vec::new();
        for place in &places.transformers {
            wanted.extend(TRANSFORMER_FILES.iter().map(|name| beside(place, name)));
            wanted.extend(self.weights(place)?);
        }
        for module in &places.modules {
            wanted.push(beside(&module.place, "config.json"));
            if module.weighs {
                wanted.extend(self.weights(&module.place)?);
            }
        }
        self.fetch_all(&wanted)
    }

    /// The files of the weights in a folder.
    fn weights(&mut self, place: &str) -> Result<Vec<String>, HubError> {
        let (single, index) = (beside(place, WEIGHTS), beside(place, WEIGHTS_INDEX));
        if self.lists(&single) {
            return Ok(vec![single]);
        }
        if !self.lists(&index) {
            let (id, revision) = (self.model.id.clone(), self.model.revision.into());
            return Err(HubError::NoWeights { id, revision, file: single });
        }
        self.fetch_all(std::slice::from_ref(&index))?;
        Ok(self.shards(&index)?.iter().map(|name| beside(place, name)).collect())
    }

    fn lists(&self, name: &str) -> bool {
        self.info.siblings.iter().any(|file| file.rfilename == name)
    }

    fn shards(&self, index: &str) -> Result<Vec<String>, HubError> {
        let odd = |message: String| self.model.odd_answer(message);
        let file = ConfigFile::read(self.snapshot.join(index)).map_err(|error| odd(error.to_string()))?;
        let file = file.ok_or_else(|| odd(format!("{index} is gone")))?;
        folder::shards(&file).map_err(|error| odd(error.to_string()))
    }

    /// Fetches those of `names` that the hub lists and the cache lacks.
    fn fetch_all(&mut self, names: &[String]) -> Result<(), HubError> {
        let mut missing = Vec::new();
        for file in self.info.siblings.iter().filter(|file| names.contains(&file.rfilename)) {
            if !is_name(&file.rfilename) {
                return Err(HubError::Outside { id: self.model.id.clone(), name: file.rfilename.clone() });
            }
            if !self.has(file) {
                self.bytes_total += file.size.unwrap_or(0);
                missing.push(file);
            }
        }
        missing.into_iter().try_for_each(|file| self.fetch(file))
    }

    /// Whether the cache has the file whole.
    fn has(&self, file: &RepoFile) -> bool {
        let bytes = std::fs::metadata(self.snapshot.join(&file.rfilename)).map(|metadata| metadata.len());
        bytes.is_ok_and(|bytes| file.size.is_none_or(|size| size == bytes))
    }

    /// Fetches one file, continuing what an earlier attempt left; one that turns out wrong is fetched once more from its
    /// beginning.
    fn fetch(&mut self, file: &RepoFile) -> Result<(), HubError> {
        let mut result = self.fetch_and_check(file);
        if matches!(result, Err(HubError::Damaged { .. })) {
            self.discard(file);
            result = self.fetch_and_check(file);
        }
        if matches!(result, Err(HubError::Damaged { .. })) {
            self.discard(file);
        }
        self.bytes_done += file.size.unwrap_or(0);
        result
    }

    fn fetch_and_check(&self, file: &RepoFile) -> Result<(), HubError> {
        let mut waited = Duration::ZERO;
        loop {
            let bar = Bar { progress: self.progress, file, before: self.bytes_done, total: self.bytes_total, done: 0 };
            match self.repo.download_with_progress(&file.rfilename, bar) {
                Ok(_) => break,
                Err(ApiError::LockAcquisition(_)) if waited < LOCK_WAIT && !self.has(file) => {
                    // The client itself has waited for some seconds before it says so.
                    sleep(Duration::from_secs(1));
                    waited += Duration::from_secs(6);
                }
                Err(ApiError::LockAcquisition(_)) if self.has(file) => break,
                Err(ApiError::InvalidResume) => return Err(self.damaged(file, "a part that is longer than the whole")),
                Err(error) => return Err(self.model.error(&error, Some(&file.rfilename))),
            }
        }
        if !self.has(file) {
            return Err(self.damaged(file, "of another size than the hub says"));
        }
        let Some(expected) = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_ref()) else { return Ok(()) };
        let hash = folder::sha256_file(&self.snapshot.join(&file.rfilename));
        let hash = hash.map_err(|error| self.model.cache_error(error.to_string()))?;
        if folder::hex(&hash).eq_ignore_ascii_case(expected) {
            Ok(())
        } else {
            Err(self.damaged(file, "of another hash than the hub says"))
        }
    }

    fn damaged(&self, file: &RepoFile, how: &'static str) -> HubError {
        HubError::Damaged { id: self.model.id.clone(), file: file.rfilename.clone(), how }
    }

    /// Removes what the cache has of a file: its link, its content and a part of it.
    fn discard(&self, file: &RepoFile) {
        let link = self.snapshot.join(&file.rfilename);
        let mut contents: Vec<PathBuf> = std::fs::canonicalize(&link).into_iter().collect();
        let hash = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref()).or(file.blob_id.as_deref());
        if let Some(hash) = hash.filter(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            let blob = self.model.cache().repo(self.model.repo(&self.info.sha)).blob_path(hash);
            contents.push(blob.with_extension("part"));
            contents.push(blob);
        }
        // What cannot be removed shows at the next attempt.
        let inside = |path: &PathBuf| path.starts_with(&self.model.settings.cache) || *path == link;
        for path in contents.iter().chain([&link]).filter(|path| inside(path)) {
            drop(std::fs::remove_file(path));
        }
    }
}

/// One file's progress, as part of all.
struct Bar<'a> {
    progress: &'a dyn Progress,
    file: &'a RepoFile,
    before: u64,
    total: u64,
    done: u64,
}

impl hf_hub::api::Progress for Bar<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        self.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.progress.update(&self.file.rfilename, self.before + self.done, self.total);
    }

    fn finish(&mut self) {}
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{}: there is no such folder, and it is no model id either; an id is NAME or ORGANISATION/NAME", path.display())]
    NoFolder { path: PathBuf },
    #[error("{id:?} is no {what}: letters, digits, `-`, `_`, `.` and `/` only")]
    Id { id: String, what: &'static str },
    #[error("the hub's endpoint {endpoint:?} must be http:// or https:// and a host; see HF_ENDPOINT")]
    Endpoint { endpoint: String },
    #[error(
        "{endpoint} has no model {id} with a revision {revision}; check both names (a folder is given by its path)"
    )]
    NotFound { id: String, revision: String, endpoint: String },
    #[error(
        "{endpoint} does not show {id} without a token; check the name, and if the model is private or gated set HF_TOKEN"
    )]
    TokenNeeded { id: String, endpoint: String },
    #[error("{endpoint} refuses the token for {id}; check HF_TOKEN, and whether the model's terms were accepted")]
    Forbidden { id: String, endpoint: String },
    #[error(
        "{endpoint} cannot be reached: {message}; check the network (HF_ENDPOINT sets a mirror, HTTPS_PROXY a proxy), \
         or give a folder"
    )]
    Network { endpoint: String, message: String },
    #[error(
        "{id} is not in the cache {} ({missing}), and the network is switched off; run once without model.offline \
         and HF_HUB_OFFLINE, or give a folder", cache.display()
    )]
    Offline { id: String, missing: String, cache: PathBuf },
    #[error("{id} at {revision} has no {file}; {CONVERT}")]
    NoWeights { id: String, revision: String, file: String },
    #[error("{id} has a file named {name:?}, which is refused: it could leave the folder or is no plain name")]
    Outside { id: String, name: String },
    #[error("{file} of {id} came {how}, twice; try again, or check the mirror")]
    Damaged { id: String, file: String, how: &'static str },
    #[error("{endpoint} gave an answer about {id} that makes no sense: {message}")]
    Answer { endpoint: String, id: String, message: String },
    #[error("the model cache {} cannot be used: {message}; model.cache or HF_HUB_CACHE sets another", path.display())]
    Cache { path: PathBuf, message: String },
}

impl HubError {
    pub fn failure(&self) -> Failure {
        match self {
            HubError::Network { .. } => Failure::Retry,
            _ => Failure::Fatal,
        }
    }
}

//! Downloads the files that a model needs, at one commit, from the hub into the cache.
//!
//! Each file is checked against the size and hash that the hub states. A corrupt file is removed from the cache.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiError, ApiRepo};

use super::error::HubError;
use super::repository::{ModelRepository, RepositoryFile, RepositoryInfo, is_name};
use super::settings::DownloadProgress;
use crate::digest;
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;
use crate::model::files::{self, WEIGHTS, WEIGHTS_INDEX};
use crate::model::modules_json::{self, ModulePaths, join};
use crate::model::sentence_bert_config::SENTENCE_BERT_CONFIGS;

/// How long to wait for another process that is downloading the same file.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// The download of one model's files.
pub(super) struct Download<'a> {
    repository: &'a ModelRepository<'a>,
    api: ApiRepo,
    snapshot: PathBuf,
    info: &'a RepositoryInfo,
    progress: &'a dyn DownloadProgress,
    bytes_done: u64,
    bytes_total: u64,
}

/// Files beside the transformer's weights that say how to use it, besides [`SENTENCE_BERT_CONFIGS`]. Those that the repository
/// has are downloaded.
const TRANSFORMER_FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

impl<'a> Download<'a> {
    /// A download of the commit in `info`.
    pub(super) fn new(
        repository: &'a ModelRepository<'a>,
        api: &Api,
        info: &'a RepositoryInfo,
        progress: &'a dyn DownloadProgress,
    ) -> Self {
        let (api, snapshot) = (api.repo(repository.at(&info.sha)), repository.snapshot(&info.sha));
        Download { repository, api, snapshot, info, progress, bytes_done: 0, bytes_total: 0 }
    }

    /// Downloads the needed files that the cache lacks.
    ///
    /// # Errors
    /// If the files describe no model, a file cannot be downloaded, or a file is corrupt twice.
    pub(super) fn run(&mut self) -> Result<(), HubError> {
        self.fetch_all(&["modules.json", "config_sentence_transformers.json"].map(str::to_owned))?;
        let repository = self.repository;
        let unusable = |error: LoadError| repository.unexpected_response(error.to_string());
        let entries = modules_json::list(&self.snapshot).map_err(unusable)?.unwrap_or_default();
        let router_files: Vec<String> = entries.iter().filter_map(modules_json::router_files).flatten().collect();
        self.fetch_all(&router_files)?;
        let paths = ModulePaths::read(&self.snapshot).map_err(unusable)?;
        let mut needed = Vec::new();
        for folder in &paths.transformers {
            needed.extend(TRANSFORMER_FILES.iter().chain(&SENTENCE_BERT_CONFIGS).map(|name| join(folder, name)));
            if !self.is_listed(&join(folder, "tokenizer.json")) {
                needed.push(join(folder, "vocab.txt"));
            }
            needed.extend(self.weights(folder)?);
        }
        for module in &paths.modules {
            needed.push(join(&module.path, "config.json"));
            if module.has_weights {
                needed.extend(self.weights(&module.path)?);
            }
        }
        self.fetch_all(&needed)
    }

    /// The paths of the weights in a folder of the repository.
    fn weights(&mut self, folder: &str) -> Result<Vec<String>, HubError> {
        let (single, index) = (join(folder, WEIGHTS), join(folder, WEIGHTS_INDEX));
        if self.is_listed(&single) {
            return Ok(vec![single]);
        }
        if !self.is_listed(&index) {
            let (id, revision) = (self.repository.id.clone(), self.repository.revision.into());
            return Err(HubError::NoWeights { id, revision, file: single, hint: files::SAFETENSORS_ONLY });
        }
        self.fetch_all(std::slice::from_ref(&index))?;
        Ok(self.shards(&index)?.iter().map(|name| join(folder, name)).collect())
    }

    /// Whether the repository has a file.
    fn is_listed(&self, name: &str) -> bool {
        self.info.siblings.iter().any(|file| file.rfilename == name)
    }

    /// The names of the shards in a downloaded index.
    fn shards(&self, index: &str) -> Result<Vec<String>, HubError> {
        let unusable = |error: LoadError| self.repository.unexpected_response(error.to_string());
        let file = ConfigFile::read(self.snapshot.join(index)).map_err(unusable)?;
        let missing = || self.repository.unexpected_response(format!("{index} was downloaded but is missing"));
        files::shards(&file.ok_or_else(missing)?).map_err(unusable)
    }

    /// Downloads those of `names` that the repository has and the cache lacks.
    fn fetch_all(&mut self, names: &[String]) -> Result<(), HubError> {
        let mut missing = Vec::new();
        for file in self.info.siblings.iter().filter(|file| names.contains(&file.rfilename)) {
            if !is_name(&file.rfilename) {
                return Err(HubError::UnsafeFileName { id: self.repository.id.clone(), name: file.rfilename.clone() });
            }
            if !self.is_cached(file) {
                self.bytes_total += file.size.unwrap_or(0);
                missing.push(file);
            }
        }
        missing.into_iter().try_for_each(|file| self.fetch(file))
    }

    /// Whether the cache has the file, complete by its size.
    fn is_cached(&self, file: &RepositoryFile) -> bool {
        let bytes = std::fs::metadata(self.snapshot.join(&file.rfilename)).map(|metadata| metadata.len());
        bytes.is_ok_and(|bytes| file.size.is_none_or(|size| size == bytes))
    }

    /// Downloads one file, and resumes an earlier attempt. A corrupt file is downloaded once more from its beginning.
    fn fetch(&mut self, file: &RepositoryFile) -> Result<(), HubError> {
        let mut result = self.fetch_and_verify(file);
        if matches!(result, Err(HubError::CorruptFile { .. })) {
            self.discard(file);
            result = self.fetch_and_verify(file);
        }
        if matches!(result, Err(HubError::CorruptFile { .. })) {
            self.discard(file);
        }
        self.bytes_done += file.size.unwrap_or(0);
        result
    }

    fn fetch_and_verify(&self, file: &RepositoryFile) -> Result<(), HubError> {
        let mut waited = Duration::ZERO;
        loop {
            let progress = FileProgress {
                progress: self.progress,
                file,
                before: self.bytes_done,
                total: self.bytes_total,
                done: 0,
            };
            match self.api.download_with_progress(&file.rfilename, progress) {
                Ok(_) => break,
                Err(ApiError::LockAcquisition(_)) if waited < LOCK_WAIT && !self.is_cached(file) => {
                    // The client has already waited for about five seconds before it returns this error.
                    sleep(Duration::from_secs(1));
                    waited += Duration::from_secs(6);
                }
                Err(ApiError::LockAcquisition(_)) if self.is_cached(file) => break,
                Err(ApiError::InvalidResume) => {
                    return Err(self.corrupt(file, "its partial content is longer than the file"));
                }
                Err(error) => return Err(self.repository.error(&error, Some(&file.rfilename))),
            }
        }
        if !self.is_cached(file) {
            return Err(self.corrupt(file, "its size differs from the hub's"));
        }
        let Some(expected) = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_ref()) else { return Ok(()) };
        let hash = digest::sha256_file(&self.snapshot.join(&file.rfilename));
        let hash = hash.map_err(|error| self.repository.cache_error(error.to_string()))?;
        if digest::hex(&hash).eq_ignore_ascii_case(expected) {
            Ok(())
        } else {
            Err(self.corrupt(file, "its SHA-256 differs from the hub's"))
        }
    }

    fn corrupt(&self, file: &RepositoryFile, problem: &'static str) -> HubError {
        HubError::CorruptFile { id: self.repository.id.clone(), file: file.rfilename.clone(), problem }
    }

    /// Removes a file from the cache: its link, its content and its partial content.
    fn discard(&self, file: &RepositoryFile) {
        let link = self.snapshot.join(&file.rfilename);
        let mut contents: Vec<PathBuf> = std::fs::canonicalize(&link).into_iter().collect();
        let hash = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref()).or(file.blob_id.as_deref());
        if let Some(hash) = hash.filter(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            let blob = self.repository.cache().repo(self.repository.at(&self.info.sha)).blob_path(hash);
            contents.push(blob.with_extension("part"));
            contents.push(blob);
        }
        // A file that cannot be removed makes the next attempt fail, so the result is not looked at here.
        let inside = |path: &PathBuf| path.starts_with(&self.repository.settings.cache) || *path == link;
        for path in contents.iter().chain([&link]).filter(|path| inside(path)) {
            drop(std::fs::remove_file(path));
        }
    }
}

/// The progress of one file, as a part of all files.
struct FileProgress<'a> {
    progress: &'a dyn DownloadProgress,
    file: &'a RepositoryFile,
    before: u64,
    total: u64,
    done: u64,
}

impl hf_hub::api::Progress for FileProgress<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        self.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.progress.update(&self.file.rfilename, self.before + self.done, self.total);
    }

    fn finish(&mut self) {}
}

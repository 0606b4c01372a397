//! A model's files from the hub into the cache: those that are needed, at one commit, each held against the size and the
//! hash that the hub gave.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiError, ApiRepo};
use serde::Deserialize;

use super::{HubError, Model, Progress, is_name};
use crate::digest;
use crate::model::LoadError;
use crate::model::config_file::ConfigFile;
use crate::model::files::{self, WEIGHTS, WEIGHTS_INDEX};
use crate::model::modules_json::{self, ModulePaths, beside};
use crate::model::spec::SENTENCE_CONFIGS;

/// What the hub says about a model at a revision.
#[derive(Deserialize)]
pub struct RepoInfo {
    pub sha: String,
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

/// How often a file that broke off is continued before giving up.
pub const RETRIES: usize = 3;
/// How long to wait for another process that is fetching the same file.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// One model's files on their way into the cache.
pub struct Download<'a> {
    model: &'a Model<'a>,
    repo: ApiRepo,
    snapshot: PathBuf,
    info: &'a RepoInfo,
    progress: &'a dyn Progress,
    bytes_done: u64,
    bytes_total: u64,
}

/// Files beside the transformer's weights that say how it is used, besides [`SENTENCE_CONFIGS`]; those that there are get
/// fetched.
const TRANSFORMER_FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

impl<'a> Download<'a> {
    pub fn new(model: &'a Model<'a>, api: &Api, info: &'a RepoInfo, progress: &'a dyn Progress) -> Self {
        let (repo, snapshot) = (api.repo(model.repo(&info.sha)), model.snapshot(&info.sha));
        Download { model, repo, snapshot, info, progress, bytes_done: 0, bytes_total: 0 }
    }

    /// Fetches what the cache lacks.
    pub fn run(&mut self) -> Result<(), HubError> {
        self.fetch_all(&["modules.json", "config_sentence_transformers.json"].map(str::to_owned))?;
        let odd = |error: LoadError| self.model.odd_answer(error.to_string());
        let listed = modules_json::listed(&self.snapshot).map_err(odd)?.unwrap_or_default();
        let routers: Vec<String> = listed.iter().filter_map(modules_json::router_files).flatten().collect();
        self.fetch_all(&routers)?;
        let places = ModulePaths::read(&self.snapshot).map_err(|error| self.model.odd_answer(error.to_string()))?;
        let mut wanted = Vec::new();
        for place in &places.transformers {
            wanted.extend(TRANSFORMER_FILES.iter().chain(&SENTENCE_CONFIGS).map(|name| beside(place, name)));
            if !self.lists(&beside(place, "tokenizer.json")) {
                wanted.push(beside(place, "vocab.txt"));
            }
            wanted.extend(self.weights(place)?);
        }
        for module in &places.modules {
            wanted.push(beside(&module.path, "config.json"));
            if module.has_weights {
                wanted.extend(self.weights(&module.path)?);
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
        files::shards(&file).map_err(|error| odd(error.to_string()))
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
        let hash = digest::sha256_file(&self.snapshot.join(&file.rfilename));
        let hash = hash.map_err(|error| self.model.cache_error(error.to_string()))?;
        if digest::hex(&hash).eq_ignore_ascii_case(expected) {
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

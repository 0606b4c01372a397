//! Model folders: the tiny random ones of the repository, and the real one that `make setup` fetches.

use std::path::PathBuf;

/// The folder of models and vectors that sentence-transformers made.
pub fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// One of the tiny random BERT models.
pub fn tiny(name: &str) -> PathBuf {
    golden_folder().join("tiny").join(name)
}

/// all-MiniLM-L6-v2, from `EMBEDMILL_TEST_MODEL` or the cache folder.
pub fn real_model() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"));
    let default = cache.join("embedmill/models/all-MiniLM-L6-v2");
    let folder = std::env::var_os("EMBEDMILL_TEST_MODEL").map_or(default, PathBuf::from);
    assert!(folder.join("modules.json").is_file(), "{}: not a model folder; run `make setup`", folder.display());
    folder
}

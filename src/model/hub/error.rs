//! Why a model id cannot be resolved to a folder. Each cause has its own message, which says what to do.

use std::path::PathBuf;

use crate::failure::Failure;

/// Why a model id cannot be resolved to a folder.
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that can only be a path, and that no folder has.
    #[error("{}: no such folder, and not a model id; expected a model folder, NAME or ORGANISATION/NAME", path.display())]
    NoFolder { path: PathBuf },
    /// A model id or revision with characters that none has.
    #[error("{key}: invalid name {name:?}; expected letters, digits, `-`, `_`, `.` and `/`")]
    InvalidName { key: &'static str, name: String },
    /// An endpoint that is not an HTTP address.
    #[error("HF_ENDPOINT: invalid endpoint {endpoint:?}; expected http:// or https:// and a host")]
    InvalidEndpoint { endpoint: String },
    /// The hub has no such model, or no such revision of it.
    #[error(
        "{endpoint}: model {id:?} with revision {revision:?} not found; expected an existing model and revision (check both \
         names; a folder is given by its path)"
    )]
    NotFound { id: String, revision: String, endpoint: String },
    /// The hub refuses access without a token.
    #[error(
        "{endpoint}: access to model {id:?} denied without a token (check the name; for a private or gated model, set HF_TOKEN)"
    )]
    TokenNeeded { id: String, endpoint: String },
    /// The hub refuses access with the token.
    #[error(
        "{endpoint}: access to model {id:?} denied with this token (check HF_TOKEN, and whether the model's terms were accepted)"
    )]
    Forbidden { id: String, endpoint: String },
    /// The hub did not answer, and the cache does not have the model.
    #[error(
        "{endpoint}: cannot be reached: {message} (check the network, set a mirror with HF_ENDPOINT or a proxy with \
         HTTPS_PROXY, or give a folder)"
    )]
    Network { endpoint: String, message: String },
    /// The network is disabled, and the cache does not have the model.
    #[error(
        "{}: model {id:?} is not in the cache: {missing}; expected a complete snapshot, since the network is disabled (run once \
         without model.offline and HF_HUB_OFFLINE, or give a folder)", cache.display()
    )]
    Offline { id: String, missing: String, cache: PathBuf },
    /// The revision has no weights in a format that is supported.
    #[error("{id}@{revision}: no {file}; {hint}")]
    NoWeights { id: String, revision: String, file: String, hint: &'static str },
    /// The hub lists a needed file under a name that could leave the cache.
    #[error("{id}: unsafe file name {name:?}; expected a relative path of letters, digits, `-`, `_`, `.` and `/`")]
    UnsafeFileName { id: String, name: String },
    /// Two downloads of a file differ from what the hub says about it.
    #[error("{id}: {file}: corrupt download, twice: {problem} (try again, or check the mirror)")]
    CorruptFile { id: String, file: String, problem: &'static str },
    /// The hub answered with something unexpected.
    #[error("{endpoint}: unexpected response about model {id:?}: {message}")]
    UnexpectedResponse { endpoint: String, id: String, message: String },
    /// The cache cannot be read or written.
    #[error("{}: the model cache cannot be used: {message} (model.cache or HF_HUB_CACHE sets another folder)", path.display())]
    Cache { path: PathBuf, message: String },
}

impl HubError {
    /// Whether a retry can help.
    pub fn failure(&self) -> Failure {
        match self {
            HubError::Network { .. } => Failure::Retry,
            _ => Failure::Fatal,
        }
    }
}

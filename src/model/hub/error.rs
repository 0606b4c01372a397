//! What can go wrong between a model id and its folder, each with what to do.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::model::files::CONVERT;

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

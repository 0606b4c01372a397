//! Why a plan is refused.

/// An invalid value or combination, and the key to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct PlanError {
    /// The dotted key of the pipeline file.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// The error that refuses the value of `key`.
pub(super) fn refuse<T>(key: &str, message: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { key: key.into(), message: message.into() })
}

//! Mistakes in the configuration, with the location that made them.

/// A mistake in the configuration, displayed as `location: key: message`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", joined(.location, .key, .message))]
pub struct ConfigError {
    /// Where the mistake was written, such as `pipeline.yaml:12`, `--set` or `environment variable NAME`. Empty if the
    /// key was not written anywhere.
    pub location: String,
    /// The dotted key, such as `model.pooling`; empty if the mistake concerns the whole text.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

fn joined(location: &str, key: &str, message: &str) -> String {
    let parts = [location, key, message];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

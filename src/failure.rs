//! What an error means for the stream.

/// What a run does after an error. Every stage's error maps to one of these, and nothing else decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The same operation may succeed later: it is tried again for a bounded time.
    Retry,
    /// This record can never succeed: it goes to the dead letters, and the stream continues.
    Poison,
    /// Nothing can succeed: the run stops. Nothing that was not published is committed.
    Fatal,
}

/// An error of a client library, carried through modules that do not know the library.
#[derive(Debug)]
pub struct ClientError {
    failure: Failure,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl ClientError {
    /// Wraps `error`, whose meaning for the stream is `failure`.
    pub fn new(failure: Failure, error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
        ClientError { failure, error: Box::new(error) }
    }

    /// What the error means for the stream.
    pub fn failure(&self) -> Failure {
        self.failure
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

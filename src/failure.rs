//! What an error means for the stream.

/// Every error of a stage is one of these; what happens next depends on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The same again may succeed: try again, a bounded number of times.
    Retry,
    /// This record can never succeed: it goes to the dead letters, the stream goes on.
    Poison,
    /// Nothing can succeed: stop, with nothing committed that was not published.
    Fatal,
}

/// An error of a client library, carried through rooms that do not know the library.
#[derive(Debug)]
pub struct ClientError {
    failure: Failure,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl ClientError {
    pub fn new(failure: Failure, error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
        ClientError { failure, error: Box::new(error) }
    }

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

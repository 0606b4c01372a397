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

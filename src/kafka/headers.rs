//! The headers of the messages that embedmill produces. docs/compatibility.md lists them.

/// The media type of a message of rows.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// The number of rows in the message.
pub(crate) const ROWS: &str = "embedmill.rows";
/// The fingerprint of the rows' schema: columns, types and provenance.
pub(crate) const SCHEMA: &str = "embedmill.schema";

/// The prefix of the headers that embedmill adds to a dead letter. A replay removes them, but for [`ATTEMPT`].
pub(crate) const PREFIX: &str = "embedmill.";
/// Why the record was rejected.
pub(crate) const CAUSE: &str = "embedmill.cause";
/// The stage that rejected it.
pub(crate) const STAGE: &str = "embedmill.stage";
/// Where the record was read: `topic[partition]@offset`, or a file and the line.
pub(crate) const POSITION: &str = "embedmill.position";
/// How many times the record has been rejected, replays counted.
pub(crate) const ATTEMPT: &str = "embedmill.attempt";
/// The version of embedmill that rejected it.
pub(crate) const VERSION: &str = "embedmill.version";
/// Present if the dead letters' topic would not take the value; a replay leaves the record where it is.
pub(crate) const VALUE_LEFT_OUT: &str = "embedmill.value-left-out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_documented() {
        let documented = include_str!("../../docs/compatibility.md");
        for header in [CONTENT_TYPE, ROWS, SCHEMA, CAUSE, STAGE, POSITION, ATTEMPT, VERSION, VALUE_LEFT_OUT] {
            assert!(documented.contains(&format!("| `{header}` |")), "docs/compatibility.md does not list {header}");
        }
    }
}

//! Standard output of the commands, and mistakes in their arguments that clap cannot detect.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes data and a final line break to standard output. A closed pipe, as after `| head`, is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write_line(&mut io::stdout().lock(), text.trim_end_matches('\n'))
}

/// Writes a line to standard output, with colours on a terminal only. A closed pipe is not an error.
pub(crate) fn print_styled(line: impl Display) -> anyhow::Result<()> {
    write_line(&mut anstream::stdout().lock(), line)
}

fn write_line(out: &mut impl Write, line: impl Display) -> anyhow::Result<()> {
    match writeln!(out, "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A usage error that clap cannot detect. It ends the process with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

/// A usage error with this message.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

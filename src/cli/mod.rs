//! The command line: what the user types to what the library does, and its outcome to an exit code.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed while running, 2 wrong
//! usage or configuration, refused before any data moved.

mod arguments;
mod calibrate;
mod check;
mod encode;
mod explain;
mod inspect;
mod models;
mod pipeline_file;
mod progress;
mod replay;
mod run;
mod search;
mod shipped;
mod test;
mod top;
mod top_view;

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::failure::Failure;
use crate::model::LoadError;
use crate::output::read::ReadError;
use crate::plan::PlanError;
use crate::start::StartError;
use crate::telemetry::observer::ObserveError;
use crate::telemetry::otlp::OtlpError;
use anyhow::Error;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "embedmill", version, about, long_about = LONG_ABOUT, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Text records in, vectors out: batched by token length through a sentence-embedding model in libtorch, delivered in \
order as Arrow.

  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2
  embedmill search vectors.arrow \"how do I retry a request?\"";

#[derive(Debug, Subcommand)]
enum Command {
    /// Embed files in one go
    Encode(Box<encode::EncodeArgs>),
    /// Run a pipeline file
    Run(run::RunArgs),
    /// Check a pipeline file without touching anything
    Validate(explain::ValidateArgs),
    /// Look whether everything that a pipeline needs is there: brokers, topics, model, devices
    Check(check::CheckArgs),
    /// Show what a pipeline file will do, a line a stage
    Explain(explain::ExplainArgs),
    /// Try pipeline files on given records: what comes out, and what does not
    Test(test::TestArgs),
    /// Put dead letters back into the topics that they came from
    Replay(replay::ReplayArgs),
    /// Print the JSON Schema of the pipeline file
    #[command(after_help = "Example:\n  embedmill schema > embedmill.schema.json")]
    Schema,
    /// Find between which numbers a model's vectors lie, to write them as int8 or uint8
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// Which models are supported, what a model is, and fetching one
    Models(models::ModelsArgs),
    /// Show what is in an output file: rows, columns, where its vectors come from
    Inspect(inspect::InspectArgs),
    /// Find the rows nearest to a text, exactly
    Search(search::SearchArgs),
    /// Watch a run: rates, devices, partitions, last errors
    Top(top::TopArgs),
    /// Print the completions of a shell
    Completions(shipped::CompletionsArgs),
    /// Write the manual's pages
    #[command(hide = true)]
    Man(shipped::ManArgs),
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if matches!(cli.command, Command::Run(_)) { "info" } else { "warn" };
    // What the user wrote was flags; in a pipeline file it was keys.
    let with_file = matches!(
        cli.command,
        Command::Run(_) | Command::Validate(_) | Command::Check(_) | Command::Test(_) | Command::Explain(_)
    );
    let outcome =
        crate::telemetry::logs::start(level, crate::config::log_filter().as_deref()).map_err(usage).and_then(|()| {
            match cli.command {
                Command::Encode(args) => encode::encode(*args),
                Command::Run(args) => run::run(args),
                Command::Validate(args) => explain::validate(args),
                Command::Check(args) => check::check_pipeline(args),
                Command::Test(args) => test::test(args),
                Command::Replay(args) => replay::replay_letters(args),
                Command::Explain(args) => explain::explain(args),
                Command::Schema => print(&serde_json::to_string_pretty(&crate::config::schema())?),
                Command::Calibrate(args) => calibrate::calibrate(*args),
                Command::Models(args) => models::models(args),
                Command::Inspect(args) => inspect::inspect(args),
                Command::Search(args) => search::search(args),
                Command::Top(args) => top::top(args),
                Command::Completions(args) => shipped::completions(&args),
                Command::Man(args) => shipped::man(&args),
            }
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let style = anstyle_red();
            let message = format!("{error:#}");
            let message = if with_file { message } else { arguments::in_flags(&message) };
            anstream::eprintln!("{style}error:{style:#} {message}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn anstyle_red() -> clap::builder::styling::Style {
    clap::builder::styling::AnsiColor::Red.on_default().bold()
}

/// A line of data to standard output. A reader that has gone is no failure of ours.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Wrong usage that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn usage(message: impl Into<String>) -> Error {
    Usage(message.into()).into()
}

/// 2 for what was refused before any data moved, else 1; 1 too for what may work at another time, so that whoever starts
/// runs again starts this one.
fn exit_code(error: &Error) -> u8 {
    let start = error.downcast_ref::<StartError>().map(StartError::failure);
    if start.or_else(|| error.downcast_ref::<LoadError>().map(LoadError::failure)) == Some(Failure::Retry) {
        return 1;
    }
    let refused = error.is::<Usage>()
        || error.is::<ConfigError>()
        || error.is::<PlanError>()
        || error.is::<LoadError>()
        || error.is::<StartError>()
        || error.is::<ObserveError>()
        || error.is::<OtlpError>()
        || error.is::<ReadError>();
    if refused { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

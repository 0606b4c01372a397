//! The command line: parses arguments, runs a command, and turns its result into an exit code.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: 0 success, 1 failure during the run,
//! 2 usage or configuration error (before any data is read).

mod arguments;
mod calibrate;
mod check;
mod completions;
mod encode;
mod explain;
mod inspect;
mod man;
mod models;
mod pipeline_file;
mod progress;
mod replay;
mod run;
mod search;
mod terminal;
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
use clap::{CommandFactory, Parser, Subcommand};
use terminal::{UsageError, print, usage};

#[derive(Debug, Parser)]
#[command(name = "embedmill", version, about, long_about = LONG_ABOUT, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Text records in, vectors out: texts are batched by token length, embedded by a sentence-transformers model in libtorch, and \
written in input order as Arrow.

  embedmill encode docs/*.jsonl -o vectors.arrow --model sentence-transformers/all-MiniLM-L6-v2
  embedmill search vectors.arrow \"how do I retry a request?\"";

#[derive(Debug, Subcommand)]
enum Command {
    /// Embed files, configured by flags
    Encode(Box<encode::EncodeArgs>),
    /// Run a pipeline file
    Run(run::RunArgs),
    /// Check a pipeline file without opening anything
    Validate(explain::ValidateArgs),
    /// Check that the files, brokers, topics, model and devices of a pipeline are available
    Check(check::CheckArgs),
    /// Print the execution plan of a pipeline file, one line per stage
    Explain(explain::ExplainArgs),
    /// Run unit tests of pipeline files
    Test(test::TestArgs),
    /// Publish dead letters to their original topics again
    Replay(replay::ReplayArgs),
    /// Print the JSON Schema of the pipeline file
    #[command(after_help = "Example:\n  embedmill schema > embedmill.schema.json")]
    Schema,
    /// Compute quantization ranges for int8 and uint8 output
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// List, show and download models
    Models(models::ModelsArgs),
    /// Show the contents of an output file: rows, columns, and the model that made its vectors
    Inspect(inspect::InspectArgs),
    /// Find the nearest neighbours of a text by exact search
    Search(search::SearchArgs),
    /// Show a run live: throughput, devices, partitions, recent errors
    Top(top::TopArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Runs the command of the process's arguments, and reports an error on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if matches!(cli.command, Command::Run(_)) { "info" } else { "warn" };
    // Errors name keys of the pipeline file. For commands without one, these are replaced by the flags that set them.
    let has_pipeline_file = matches!(
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
                Command::Replay(args) => replay::replay_dead_letters(args),
                Command::Explain(args) => explain::explain(args),
                Command::Schema => print(&serde_json::to_string_pretty(&crate::config::schema())?),
                Command::Calibrate(args) => calibrate::calibrate(*args),
                Command::Models(args) => models::models(args),
                Command::Inspect(args) => inspect::inspect(args),
                Command::Search(args) => search::search(args),
                Command::Top(args) => top::top(args),
                Command::Completions(args) => completions::completions(&args, Cli::command()),
                Command::Man(args) => man::man(&args, Cli::command()),
            }
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let style = clap::builder::styling::AnsiColor::Red.on_default().bold();
            let message = format!("{error:#}");
            let message = if has_pipeline_file { message } else { arguments::in_flags(&message) };
            anstream::eprintln!("{style}error:{style:#} {message}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The exit code of an error: 2 if it was found before any data was read, otherwise 1. Errors that may pass, such as a
/// broker that is down, have 1 too, so that a supervisor restarts the run.
fn exit_code(error: &Error) -> u8 {
    let start = error.downcast_ref::<StartError>().map(StartError::failure);
    if start.or_else(|| error.downcast_ref::<LoadError>().map(LoadError::failure)) == Some(Failure::Retry) {
        return 1;
    }
    let refused = error.is::<UsageError>()
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

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `man`: the manual pages, made from the command line definitions.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  embedmill man man/ && man man/embedmill-encode.1")]
pub(crate) struct ManArgs {
    /// The folder to write the pages to, one page per command
    folder: PathBuf,
}

/// Writes the pages of `command` and of its subcommands.
pub(crate) fn man(args: &ManArgs, command: clap::Command) -> anyhow::Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    clap_mangen::generate_to(command, folder).with_context(|| format!("{}: cannot be written", folder.display()))
}

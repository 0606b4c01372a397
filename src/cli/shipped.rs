//! `completions` and `man`: what packages ship beside the binary, made of the command line itself.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill completions bash > ~/.local/share/bash-completion/completions/embedmill
  embedmill completions zsh > \"${fpath[1]}/_embedmill\"
  embedmill completions fish > ~/.config/fish/completions/embedmill.fish")]
pub struct CompletionsArgs {
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  embedmill man man/ && man man/embedmill-encode.1")]
pub struct ManArgs {
    /// Where the pages go, one a command
    folder: PathBuf,
}

pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "embedmill", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(|| format!("{}: cannot be written", folder.display()))
}

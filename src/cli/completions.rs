//! `completions`: completion scripts for shells, made from the command line definitions.

use clap::Args;
use clap_complete::Shell;

use super::terminal::print;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embedmill completions bash > ~/.local/share/bash-completion/completions/embedmill
  embedmill completions zsh > \"${fpath[1]}/_embedmill\"
  embedmill completions fish > ~/.config/fish/completions/embedmill.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for
    shell: Shell,
}

/// Prints the completion script of `command`.
pub(crate) fn completions(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "embedmill", &mut script);
    print(&String::from_utf8_lossy(&script))
}

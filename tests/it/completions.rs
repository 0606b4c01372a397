//! Completion scripts and manual pages, as packages contain them.

use std::collections::BTreeSet;
use std::process::Command as Program;

use super::cli::{embedmill, folder_with};

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let folder = folder_with(&[]);
    let help = embedmill(folder.path()).arg("--help").assert().success().get_output().stdout.clone();
    let help = String::from_utf8_lossy(&help).into_owned();
    let (_, listed) = help.split_once("Commands:\n").expect("the commands are listed");
    let listed = listed.lines().take_while(|line| line.starts_with("  "));
    let names = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(String::from).collect()
}

#[test]
fn every_shell_completes_every_command() {
    let folder = folder_with(&[]);
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script =
            embedmill(folder.path()).args(["completions", shell]).assert().success().get_output().stdout.clone();
        let script = String::from_utf8_lossy(&script).into_owned();
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
        let path = folder.path().join(shell);
        std::fs::write(&path, script).expect("it can be written");
        // What is here to read it reads it.
        if let Ok(output) = Program::new(shell).arg("-n").arg(&path).output() {
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    embedmill(folder.path()).args(["completions", "tcsh"]).assert().code(2);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = folder_with(&[]);
    embedmill(folder.path()).args(["man", "pages/"]).assert().success().stdout("");
    let page = |name: &str| std::fs::read_to_string(folder.path().join("pages").join(name)).expect(name);
    for command in commands() {
        let text = page(&format!("embedmill-{command}.1"));
        assert!(text.contains(".SH SYNOPSIS"), "{command}: {text}");
    }
    assert!(page("embedmill.1").contains("vectors out"));
}

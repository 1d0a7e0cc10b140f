//! `natv2 completions`.

use super::{Cli, Error, output};
use crate::exit::Exit;
use clap::{Args, CommandFactory};

const AFTER_HELP: &str = "\
Examples:
  natv2 completions bash > ~/.local/share/bash-completion/completions/natv2
  natv2 completions fish > ~/.config/fish/completions/natv2.fish";

/// Arguments of `natv2 completions`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "natv2", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}

//! The `natv2` command line: one file a subcommand.
//!
//! A subcommand is a struct of arguments (`clap`) with a method `run(self) -> Result<Exit, Error>`.
//! It reads its input, calls the library and prints. To add one: a file, a variant of [`Command`]
//! and a line in [`run`]. What subcommands share:
//!
//! - [`Globals`]: `--device`, `--threads`, `--isa`, `--quiet`, `--json`;
//! - [`Weights`]: `--weights` and `--family`;
//! - [`input`]: architectures, genotypes and lists as people write them;
//! - [`output`]: standard output, which a closed pipe ends quietly;
//! - [`Error`]: every failure with its exit code.
//!
//! Results go to standard output in one piece at the end, so that it stays empty on a failure;
//! progress, notes and errors go to standard error.

pub mod arch;
mod bench;
mod budget;
mod compare;
mod completions;
mod data;
mod doctor;
mod doctor_tools;
mod error;
mod evaluate;
mod export;
mod finetune;
mod globals;
pub mod input;
mod logits;
pub mod output;
mod report;
mod run;
mod search;
mod session;
mod shared;
mod status;
mod supernet;
mod threads;
mod train;

pub use error::Error;
pub use globals::{Globals, Images, Machine, Seed, Talk, Weights};

use crate::exit::Exit;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Examples:
  natv2 run                                    the whole method on the built-in digits
  natv2 search                                 search the built-in super-network on the digits
  natv2 doctor                                 what this machine has and what is missing
  natv2 arch sample --family EE_D -n 3         three random networks
  natv2 evaluate --archs networks.jsonl        their accuracy with the built-in super-network
  natv2 compare --methods natv2,nat            two methods on one budget, three seeds each
  natv2 export --run DIR --network 3 --out net.onnx     a network of a search, for other programs

Exit codes: 0 done; 1 a failure (files, data, the machine); 2 wrong use (arguments, configuration,
architectures); 75 stopped on request, the same command resumes.
Results go to standard output, progress and errors to standard error.";

/// Multi-objective neural architecture search over weight-sharing super-networks.
///
/// Trains OFA and OFAv2 super-networks, searches them with NAT and NATv2, and writes out what it
/// finds. Every subcommand explains itself with --help.
#[derive(Debug, Parser)]
#[command(name = "natv2", version, arg_required_else_help = true)]
#[command(after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Architectures and genotypes of a search space: encode, decode, cost, sample, show.
    #[command(subcommand)]
    Arch(arch::Arch),
    /// The whole method: train or load a super-network, search with adaptation, fine-tune, export.
    Run(run::Run),
    /// Accuracy of sub-networks on a data set, with recalibrated batch norms.
    Evaluate(evaluate::Evaluate),
    /// Train a super-network: full, then ever smaller sub-networks (progressive shrinking).
    Train(train::Train),
    /// Write a network to a file of its own: safetensors, or ONNX for other programs.
    Export(Box<export::Export>),
    /// Search a trained super-network for the best trade-offs of accuracy and cost.
    Search(search::Search),
    /// Search with different methods or settings, and compare what they find.
    Compare(compare::Compare),
    /// Train networks that a search has found on their own, before and after on the test images.
    Finetune(finetune::Finetune),
    /// Where a run stands.
    Status(status::Status),
    /// The page of a run, written again.
    Report(report::Report),
    /// This machine's figures.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Outputs of a sub-network for images of a file.
    Logits(logits::Logits),
    /// Super-networks: what a file holds, new ones, one family made into another.
    #[command(subcommand)]
    Supernet(supernet::Supernet),
    /// Data sets: download them, what they hold, and whether they are whole.
    #[command(subcommand)]
    Data(data::Data),
    /// What this machine has and what is missing, for every device.
    Doctor(doctor::Doctor),
    /// A completion script for a shell.
    Completions(completions::Completions),
}

/// Runs a subcommand.
///
/// # Errors
/// Whatever goes wrong; [`Error::exit`] is the code to leave with.
pub fn run(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Arch(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Search(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Finetune(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Logits(command) => command.run(),
        Command::Supernet(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

/// The whole program: reads the command line, runs it, prints an error if there is one.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // Help, version or a wrong use; nowhere to print it is no reason to fail differently.
            let _ = message.print();
            return ExitCode::from(message.exit_code().clamp(0, 255) as u8);
        }
    };
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !matches!(error, Error::ClosedPipe) {
                output::say(&format!("error: {error}"));
            }
            error.exit().into()
        }
    }
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

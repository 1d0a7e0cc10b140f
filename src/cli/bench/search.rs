//! `natv2 bench search`: the parts of a search's iteration.

use super::{Error, print};
use crate::bench::search::run;
use crate::cli::Globals;
use crate::config::{self, Objective, Profile};
use crate::evaluator::Evaluator;
use crate::exit::Exit;
use crate::pipeline::options;
use clap::Args;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  natv2 bench search                                     the quick profile on the built-in digits
  natv2 bench search --profile paper --set search.archive=300 --set search.eval_images=200 --json
  natv2 bench search --set supernet.weights=net.safetensors --set data.dir=FOLDER

The archive is drawn and evaluated once, as the search of this configuration begins; then every part
of an iteration runs --rounds times behind one that does not count. Nothing is written to disk.";

/// Arguments of `natv2 bench search`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Search {
    /// Configuration file, in TOML.
    #[arg(value_name = "CONFIG.toml")]
    config: Option<PathBuf>,
    /// A setting, over the file's; may be repeated: --set search.archive=60.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where settings that were not given come from: paper, quick or tiny [default: quick].
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// Timed rounds of each part.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    #[command(flatten)]
    globals: Globals,
}

impl Search {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let config = config::load("search", self.config.as_deref(), &self.sets, self.profile)?;
        if config.search.objectives.contains(&Objective::Latency) {
            return Err(Error::Usage(
                "search.objectives: latencies are measurements of their own, and not part of this benchmark: leave latency out".into(),
            ));
        }
        let evaluator = Evaluator::open(&options(&config), self.globals.open()?)?;
        print(&run(&evaluator, &config, self.rounds.into())?, self.globals.talk.json)?;
        Ok(Exit::Done)
    }
}

//! `natv2 bench compare`: criterion's estimates against a baseline.

use super::{Error, print};
use crate::bench::compare::{Options, run};
use crate::cli::Talk;
use crate::exit::Exit;
use clap::Args;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  cargo bench --bench moo -- --save-baseline main        before the change
  cargo bench --bench moo                                behind it
  natv2 bench compare --baseline main --bound 1.05       exit code 1 if something got slower

Compared are medians: the last run over the baseline. A ratio above --bound is a regression, one
below its inverse an improvement. The interval is the ratio with both confidence intervals at their
far ends; where it is wide, measure longer (--measurement-time) or on an idle machine before
believing either. The instruction counts of `cargo bench --bench instructions` compare the same way.";

/// Arguments of `natv2 bench compare`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Compare {
    /// The baseline, as `--save-baseline` named it.
    #[arg(long, value_name = "NAME")]
    baseline: String,
    /// What to compare with it: another baseline [default: the last run].
    #[arg(long, value_name = "NAME", default_value = "new")]
    with: String,
    /// The largest ratio that is no regression.
    #[arg(long, value_name = "RATIO", default_value_t = 1.05, value_parser = bound)]
    bound: f64,
    /// Only benchmarks whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where criterion keeps its results [default: $CRITERION_HOME, else criterion in $CARGO_TARGET_DIR
    /// or target].
    #[arg(long, value_name = "FOLDER")]
    criterion: Option<PathBuf>,
    #[command(flatten)]
    talk: Talk,
}

fn bound(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (1.0..=1000.0).contains(ratio));
    ratio.ok_or_else(|| "give a ratio from 1 to 1000, such as 1.05".into())
}

impl Compare {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let target = || from("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()).join("criterion");
        let folder = self.criterion.or_else(|| from("CRITERION_HOME")).unwrap_or_else(target);
        let Compare { baseline, with, bound, only, .. } = self;
        let report = run(&Options { folder, baseline, with, bound, only })?;
        print(&report, self.talk.json)?;
        match report.regressions {
            0 => Ok(Exit::Done),
            1 => Err(Error::Check("a benchmark has become slower: see the table".into())),
            count => Err(Error::Check(format!("{count} benchmarks have become slower: see the table"))),
        }
    }
}

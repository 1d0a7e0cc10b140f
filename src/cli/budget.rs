//! `--minutes`: as much of a schedule as fits into some minutes on this machine.

use super::session::{RunPlace, Session, stopped, stopped_with};
use super::{Error, Talk};
use crate::config::{Config, Training};
use crate::exit::Exit;
use crate::pipeline::stored::StoredRun;
use crate::pipeline::training::{Stage, needed, prepare};
use crate::run::StopFlag;
use clap::Args;
use std::path::Path;

/// The flag.
#[derive(Debug, Clone, Copy, Args)]
pub struct Budget {
    /// Minutes that the training may take on this machine: some steps are timed first, and the number of epochs
    /// that fits is written into the run's configuration (train.epochs or warmup.epochs). From then on only
    /// that counts, so the run is repeated and continued by giving it in place of the minutes.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    minutes: Option<f64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let most = 100_000.0;
    let wrong = || format!("minutes are a number above 0, {most} at most");
    text.parse().ok().filter(|minutes| *minutes > 0.0 && *minutes <= most).ok_or_else(wrong)
}

impl Budget {
    /// As [`Session::resolve`], with as many epochs as fit.
    pub(super) fn resolve(self, session: &Session, command: &str) -> Result<(Config, RunPlace), Error> {
        let Some(minutes) = self.minutes else { return session.resolve(command) };
        session.globals.machine.prepare()?;
        let config = session.with(command, &[])?;
        let needed = match command {
            "train" => Some(Stage::Train),
            _ => needed(&config)?,
        };
        let stage = needed.ok_or_else(|| {
            Error::Usage(
                "--minutes is for a training, and this run has none: its weights are those of its data set; leave \
                 the flag out, or train them on (run.warmup = \"always\")"
                    .into(),
            )
        })?;
        let section = stage.section();
        let Training { phases, epochs, .. } = stage.settings(&config);
        let refused = |what: &str| Err(Error::Usage(format!("--minutes {minutes}: {what}")));
        if phases.is_some() {
            return refused(&format!(
                "the phases of {section}.phases say their epochs themselves: leave one of them out"
            ));
        }
        if let Some(epochs) = epochs {
            return refused(&format!(
                "{section}.epochs = {epochs} says already how long the training is: leave one of them out"
            ));
        }
        // A run that is named is looked at before anything is measured.
        if let Some(run) = session.named_run() {
            fresh(minutes, run, stage)?;
        }
        let device = session.globals.machine.open()?;
        let fit = prepare(&config, stage)?.fit(minutes, &device)?;
        session.globals.talk.note(&format!(
            "{section}.epochs = {}: {:.1} of {minutes} minutes, by the pace of some steps here",
            fit.epochs,
            fit.seconds / 60.0
        ));
        let config = session.with(command, &[format!("{section}.epochs={}", fit.epochs)])?;
        let path = session.place(&config);
        fresh(minutes, &path, stage)?;
        Ok((config, RunPlace::new(path)))
    }

    /// Says that a run was stopped, and what goes on with it.
    pub(super) fn stopped(self, stop: &StopFlag, talk: &Talk, config: &Config) -> Exit {
        let decided = [Stage::Train, Stage::Warmup]
            .into_iter()
            .find_map(|stage| Some((stage.section(), stage.settings(config).epochs?)));
        match (self.minutes, decided) {
            (Some(_), Some((section, epochs))) => stopped_with(
                stop,
                talk,
                &format!(" with --set {section}.epochs={epochs} in place of --minutes"),
            ),
            _ => stopped(stop, talk),
        }
    }
}

/// Refuses a run that has begun: how long it is was decided then.
fn fresh(minutes: f64, run: &Path, stage: Stage) -> Result<(), Error> {
    if !StoredRun::is_at(run) {
        return Ok(());
    }
    let stored = StoredRun::read(run)?.own;
    let section = stage.section();
    let how = match stage.settings(&stored).epochs {
        Some(epochs) => {
            format!("with {section}.epochs = {epochs}: give --set {section}.epochs={epochs} in their place")
        }
        None => "without them: leave them out".into(),
    };
    Err(Error::Usage(format!(
        "--minutes {minutes}: the run in {} has begun {how} to go on, or another --run for a new one",
        run.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number_of_them() {
        assert_eq!((minutes("20"), minutes("0.5")), (Ok(20.0), Ok(0.5)));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "20m", ""] {
            assert!(minutes(wrong).unwrap_err().contains("above 0"), "{wrong}");
        }
    }
}

//! The loop itself, from a run directory's newest checkpoint to the end.

use super::archive::algorithm;
use super::candidates::{Candidate, Proposal};
use super::measure::Meter;
use super::results::{self, Summary};
use super::state::{STAGE, STATE_FILE};
use super::{Archive, Error, Iteration, State, initial};
use crate::config::{Config, Policy};
use crate::evaluator::Evaluator;
use crate::moo;
use crate::predictor::metrics;
use crate::random::stream;
use crate::run::{Journal, Output, RunDirectory, StopFlag};
use std::collections::HashSet;

/// How a search ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over: its result, and the state that it ended in.
    Finished(Summary, Box<State>),
    /// A stop was asked for; the same command goes on.
    Stopped,
}

/// Runs the search of `config` in `run` from where it stands; at its end, its result.
///
/// # Errors
/// Evaluating, predicting or writing fails; the run directory is as it was after the last iteration.
pub fn search(
    config: &Config,
    evaluator: &Evaluator,
    run: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    check(config)?;
    let cache = run.cache("cache.jsonl")?;
    let mut journal = run.journal()?;
    for warning in [cache.warning(), journal.warning()].into_iter().flatten() {
        output.note(warning);
    }
    let meter = Meter::new(evaluator, config, cache, stop, output)?;
    let restored = restore(run, output)?;
    journal.rewind(STAGE, restored.as_ref().map(|state| state.iteration))?;
    let mut search = Search { config, evaluator, run, output, meter, journal };
    let mut state = match restored {
        Some(state) => {
            search.check_inputs(&state)?;
            // A kill may have come between the checkpoint and these.
            search.publish(&state)?;
            state
        }
        None => match search.start()? {
            Some(state) => state,
            None => return Ok(Outcome::Stopped),
        },
    };
    while state.iteration < config.search.iterations as u64 {
        if stop.requested() || !search.iterate(&mut state)? {
            return Ok(Outcome::Stopped);
        }
    }
    if state.test_top1.is_none() && !search.test(&mut state)? {
        return Ok(Outcome::Stopped);
    }
    if search.meter.saving().executions > 0 {
        output.note(&search.meter.saving().to_string());
    }
    let summary = Summary::new(evaluator.space(), config, &state, run.path())?;
    Ok(Outcome::Finished(summary, Box::new(state)))
}

/// Refuses a configuration that this version cannot carry out.
///
/// # Errors
/// The setting, and what to set it to.
pub fn check(config: &Config) -> Result<(), Error> {
    match config.adaptation.epochs {
        0 => Ok(()),
        epochs => Err(Error::Adaptation { epochs }),
    }
}

/// The newest state of a run, if it has one.
fn restore(run: &RunDirectory, output: Output) -> Result<Option<State>, Error> {
    let restored = run.latest_checkpoint(STAGE)?;
    restored.warnings.iter().for_each(|warning| output.note(warning));
    State::restored(restored)
}

struct Search<'a> {
    config: &'a Config,
    evaluator: &'a Evaluator,
    run: &'a RunDirectory,
    output: Output,
    meter: Meter<'a>,
    journal: Journal,
}

impl Search<'_> {
    /// Resumed accuracies must be comparable with those in the archive.
    fn check_inputs(&self, state: &State) -> Result<(), Error> {
        let now = self.evaluator.engine().device().arithmetic();
        if state.fingerprint == self.meter.fingerprint() {
            return Ok(());
        }
        let remedy = match state.arithmetic == now {
            true => "give the weights and the data that it began with, or another --run",
            false => {
                "choose the device and instruction set that it began with (--device, --isa), or another --run"
            }
        };
        Err(Error::OtherInputs {
            directory: self.run.path().display().to_string(),
            before: state.arithmetic.clone(),
            now,
            remedy,
        })
    }

    /// The initial archive; `None` if a stop was asked for first.
    fn start(&mut self) -> Result<Option<State>, Error> {
        let (seed, search, space) = (self.config.seed, &self.config.search, self.evaluator.space());
        let drawn = initial::draw(space, search.initialisation, search.archive, search.oversample, seed)?;
        let bounds = initial::bounds(space);
        let all: Vec<_> = drawn.iter().chain(&bounds).cloned().collect();
        let Some(mut entries) = self.meter.measure(&all, "initial archive")? else { return Ok(None) };
        let ends = entries.split_off(drawn.len());
        let mut archive = Archive { entries };
        let kept = search.archive.saturating_sub(ends.len());
        archive.survive(
            &search.objectives,
            kept,
            self.survival(),
            &mut stream(seed, "search/survival", 0, 0),
        )?;
        archive.extend(ends);
        let reference = archive.reference(&search.objectives);
        let mut seen = all;
        seen.sort();
        let mut state = State::new(
            self.meter.fingerprint().into(),
            self.evaluator.engine().device().arithmetic(),
            archive,
            seen,
            reference,
        );
        self.record(&mut state, &[], &[])?;
        Ok(Some(state))
    }

    /// One iteration; `false` if a stop was asked for before it was done.
    fn iterate(&mut self, state: &mut State) -> Result<bool, Error> {
        let search = &self.config.search;
        let iteration = state.iteration + 1;
        let seen: HashSet<_> = state.seen.iter().cloned().collect();
        let candidates = Proposal {
            space: self.evaluator.space(),
            classes: self.evaluator.engine().supernet().classes(),
            config: self.config,
            archive: &state.archive,
            seen: &seen,
            iteration,
        }
        .propose()?;
        let genotypes: Vec<_> = candidates.iter().map(|c| c.genotype.clone()).collect();
        let Some(entries) = self.meter.measure(&genotypes, "candidates")? else { return Ok(false) };

        state.iteration = iteration;
        state.evaluations += entries.len();
        state.seen.extend(genotypes);
        state.seen.sort();
        let errors: Vec<f64> = entries.iter().map(super::Entry::error).collect();
        state.archive.extend(entries);
        let capacity = search.archive
            + match search.growth {
                Policy::Natv2 => 0,
                Policy::Nat => iteration as usize * search.candidates,
            };
        match search.update {
            Policy::Natv2 => {
                let mut rng = stream(self.config.seed, "search/survival", iteration, 0);
                state.archive.survive(&search.objectives, capacity, self.survival(), &mut rng)?;
            }
            Policy::Nat => state.archive.keep_newest(capacity),
        }
        self.record(state, &candidates, &errors)?;
        Ok(true)
    }

    /// Test accuracies of the front, measured once; `false` if a stop was asked for first.
    fn test(&mut self, state: &mut State) -> Result<bool, Error> {
        let front = state.archive.front(&self.config.search.objectives);
        let genotypes: Vec<_> = front.into_iter().map(|entry| entry.genotype).collect();
        let test = match self.evaluator.dataset().split(crate::data::Split::Test).is_empty() {
            true => {
                self.output
                    .note("the data set has no test images: the front keeps its validation accuracies");
                return Ok(true);
            }
            false => self.meter.test(&genotypes)?,
        };
        let Some(test) = test else { return Ok(false) };
        state.test_top1 = Some(test);
        self.commit(state)?;
        Ok(true)
    }

    fn survival(&self) -> moo::Algorithm {
        algorithm(self.config.search.algorithm, self.config.search.objectives.len())
    }

    /// Writes down what an iteration did: journal, checkpoint, results, a line for the user.
    fn record(&mut self, state: &mut State, candidates: &[Candidate], errors: &[f64]) -> Result<(), Error> {
        let objectives = &self.config.search.objectives;
        let pairs = candidates.iter().zip(errors).filter_map(|(c, &measured)| Some((c.predicted?, measured)));
        let (predicted, measured): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let done = Iteration {
            iteration: state.iteration,
            evaluations: state.evaluations,
            archive: state.archive.entries.len(),
            front: state.archive.front(objectives).len(),
            best_top1: state.archive.entries.iter().map(super::Entry::top1).fold(0.0, f64::max),
            hypervolume: state.archive.hypervolume(objectives, &state.reference)?,
            rmse: metrics::rmse(&predicted, &measured),
            spearman: metrics::spearman(&predicted, &measured),
            kendall: metrics::kendall(&predicted, &measured),
        };
        let tau = done.kendall.map(|tau| format!(", predictor tau {tau:.2}")).unwrap_or_default();
        self.output.note(&format!(
            "iteration {:>2}: {} evaluations, hypervolume {:.5}, best {:.2} %, {} in the front{tau}",
            done.iteration, done.evaluations, done.hypervolume, done.best_top1, done.front
        ));
        self.journal.append(STAGE, state.iteration, "iteration", &done)?;
        state.history.push(done);
        self.commit(state)
    }

    fn commit(&self, state: &State) -> Result<(), Error> {
        self.meter.sync()?;
        let mut checkpoint = self.run.checkpoint(STAGE, state.iteration)?;
        checkpoint.add(STATE_FILE, &state.to_bytes())?;
        checkpoint.commit()?;
        self.publish(state)
    }

    fn publish(&self, state: &State) -> Result<(), Error> {
        for (name, bytes) in results::files(self.evaluator.space(), self.config, state)? {
            self.run.write_atomic(name, &bytes)?;
        }
        Ok(())
    }
}

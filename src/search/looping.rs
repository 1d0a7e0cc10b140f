//! The loop of a search, from the newest checkpoint of a run directory to the end.

use super::about::About;
use super::adaptation::{Adapted, Adapter, Plan, Predicted};
use super::archive::algorithm;
use super::candidates::{Candidate, Proposal};
use super::measure::Meter;
use super::results::{self, FrontPoints, Summary};
use super::state::{STAGE, STATE_FILE};
use super::{Archive, Error, Iteration, State, initial};

use crate::config::{Adaptation, Config};
use crate::data::Split;
use crate::evaluator::Evaluator;
use crate::moo;
use crate::predictor::metrics;
use crate::random::stream;
use crate::run::{self, Checkpoint, Journal, Output, Progress, RunDirectory, StopFlag};
use crate::space::sample::Policy;
use crate::train;
use crate::train::checks::{Health, Reason, Remedy};
use crate::train::tally::{distilled, left_out};
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
    let cache = run.cache("cache.jsonl")?;
    let mut journal = run.journal()?;
    for warning in [cache.warning(), journal.warning()].into_iter().flatten() {
        output.note(warning);
    }
    let meter = Meter::new(evaluator, config, cache, stop, output)?;
    let adapter = Adapter::new(config, evaluator)?;
    let restored = run.latest_checkpoint(STAGE)?;
    restored.warnings.iter().for_each(|warning| output.note(warning));
    journal.rewind(STAGE, restored.checkpoint.as_ref().map(|checkpoint| checkpoint.step()))?;
    let plan = Plan::new(&config.adaptation, evaluator.dataset().split(Split::Train).len());
    let mut search = Search { config, evaluator, run, stop, output, meter, journal, plan, adapter };
    let mut state = match &restored.checkpoint {
        Some(checkpoint) => {
            let state = State::read(checkpoint)?;
            search.check_inputs(&state)?;
            search.take_weights(&state, checkpoint)?;
            // A kill may have come between the checkpoint and these.
            search.publish(&state)?;
            state
        }
        None => match run.check_writable().map_err(Error::from).and_then(|()| search.start())? {
            Some(state) => state,
            None => return Ok(Outcome::Stopped),
        },
    };
    // Only now: the run may have begun with other weights or data, and then says so.
    About::of(evaluator).publish(run)?;
    if state.iteration < config.search.iterations as u64 {
        run.check_writable()?;
    }
    loop {
        match search.advance(&mut state) {
            Ok(Progressed::ToItsEnd) => break,
            Ok(Progressed::OneRound) => {}
            Ok(Progressed::Stopped) => return Ok(Outcome::Stopped),
            // Weights that no step has moved are what they were: then nothing would help.
            Err(error) => match error.divergence().filter(|_| state.adaptation.steps > 0) {
                Some(reason) => search.roll_back(&mut state, &reason)?,
                None => return Err(error),
            },
        }
    }
    if let Some(adapter) = &search.adapter {
        adapter.publish(&state.adaptation, run)?;
    }
    if search.meter.saving().executions > 0 {
        output.note(&search.meter.saving().to_string());
    }
    let summary = Summary::new(evaluator.space(), config, &state, run.path())?;
    Ok(Outcome::Finished(summary, Box::new(state)))
}

/// How far one round has brought a search.
enum Progressed {
    ToItsEnd,
    OneRound,
    /// A stop was asked for first.
    Stopped,
}

struct Search<'a> {
    config: &'a Config,
    evaluator: &'a Evaluator,
    run: &'a RunDirectory,
    stop: &'a StopFlag,
    output: Output,
    meter: Meter<'a>,
    journal: Journal,
    plan: Plan,
    adapter: Option<Adapter<'a>>,
}

impl Search<'_> {
    /// Resumed accuracies must be comparable with those in the archive.
    fn check_inputs(&self, state: &State) -> Result<(), Error> {
        let now = self.evaluator.engine().arithmetic();
        if state.fingerprint == self.meter.fingerprint() {
            return Ok(());
        }
        let remedy = if state.arithmetic == now {
            "give the weights and the data that it began with, or another --run"
        } else {
            "choose the device, instruction set and precision that it began with (--device, --isa, search.precision), or another --run"
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
            self.evaluator.engine().arithmetic(),
            archive,
            seen,
            reference,
        );
        self.record(&mut state, Predicted::default(), None)?;
        Ok(Some(state))
    }

    /// Goes on by an iteration, or from the last to the end.
    fn advance(&mut self, state: &mut State) -> Result<Progressed, Error> {
        let ended = |done: bool, then: Progressed| if done { then } else { Progressed::Stopped };
        if state.iteration < self.config.search.iterations as u64 {
            return Ok(ended(!self.stop.requested() && self.iterate(state)?, Progressed::OneRound));
        }
        Ok(ended(state.test_top1.is_some() || self.test(state)?, Progressed::ToItsEnd))
    }

    /// One iteration, or the rest of one; `false` if a stop was asked for before it was done.
    fn iterate(&mut self, state: &mut State) -> Result<bool, Error> {
        if state.adaptation.pending.is_none() {
            let Some(predicted) = self.evaluate_candidates(state)? else { return Ok(false) };
            if self.adapter.is_none() {
                state.iteration += 1;
                self.record(state, predicted, None)?;
                return Ok(true);
            }
            state.adaptation.pending = Some(predicted);
            // The candidates were measured with the weights that the last round left.
            self.commit(state, true)?;
        }
        self.adapt(state)
    }

    /// New candidates, measured and taken into the archive, and how well they were predicted; `None`
    /// if a stop was asked for first.
    fn evaluate_candidates(&mut self, state: &mut State) -> Result<Option<Predicted>, Error> {
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
        let Some(entries) = self.meter.measure(&genotypes, "candidates")? else { return Ok(None) };

        state.evaluations += entries.len();
        state.seen.extend(genotypes);
        state.seen.sort();
        let errors: Vec<f64> = entries.iter().map(super::Entry::error).collect();
        state.archive.extend(entries);
        let capacity = search.archive
            + match search.growth {
                Policy::NatV2 => 0,
                Policy::Nat => iteration as usize * search.candidates,
            };
        match search.update {
            Policy::NatV2 => {
                let mut rng = stream(self.config.seed, "search/survival", iteration, 0);
                state.archive.survive(&search.objectives, capacity, self.survival(), &mut rng)?;
            }
            Policy::Nat => state.archive.keep_newest(capacity),
        }
        Ok(Some(judged(&candidates, &errors)))
    }

    /// Trains the super-network and measures the archive again; `false` if a stop was asked for first.
    fn adapt(&mut self, state: &mut State) -> Result<bool, Error> {
        if !self.train(state)? {
            return Ok(false);
        }
        let (Some(adapter), Some(predicted)) = (&self.adapter, state.adaptation.pending) else {
            return Ok(true);
        };
        self.meter.adapt(adapter.weights()?)?;
        let genotypes: Vec<_> = state.archive.entries.iter().map(|e| e.genotype.clone()).collect();
        let Some(entries) = self.meter.measure(&genotypes, "evaluating the archive again")? else {
            return Ok(false);
        };
        let adapted = Adapted {
            steps: self.plan.round,
            loss: state.adaptation.epochs.last().map_or(f64::NAN, |epoch| epoch.loss),
            reevaluated: entries.len(),
            top1_before: mean_top1(&state.archive),
            top1_after: mean_top1(&Archive { entries: entries.clone() }),
        };
        state.archive.entries = entries;
        state.adaptation.pending = None;
        state.adaptation.reevaluations += adapted.reevaluated;
        state.iteration += 1;
        self.journal.append(STAGE, self.plan.number(state), "reevaluation", &adapted)?;
        self.record(state, predicted, Some(adapted))?;
        Ok(true)
    }

    /// The training of the round that is under way, from where it stands; `false` if a stop was asked
    /// for before its end.
    fn train(&mut self, state: &mut State) -> Result<bool, Error> {
        let every = self.config.adaptation.checkpoint_steps as u64;
        let iteration = state.iteration + 1;
        let what = format!("adaptation {iteration}/{}", self.config.search.iterations);
        let progress = Progress::start(self.output, what, self.plan.done(state), self.plan.round);
        let Some(adapter) = &self.adapter else { return Ok(true) };
        let distributions = adapter.distributions(state)?;
        let mut loader = adapter.loader(&state.adaptation)?;
        while self.plan.done(state) < self.plan.round {
            if self.stop.requested() {
                self.commit(state, false)?;
                return Ok(false);
            }
            let Some(adapter) = &mut self.adapter else { return Ok(true) };
            let health = adapter.step(&mut state.adaptation, &distributions, &mut loader)?;
            if let Health::Diverged(reason) = health {
                progress.finish();
                return Err(train::Error::from(reason).into());
            }
            if let Some(epoch) = adapter.end_epoch(&mut state.adaptation, iteration) {
                self.journal.append(STAGE, self.plan.number(state), "adaptation", &epoch)?;
                progress.message(format!(
                    "loss {:.4}{}, training {:.2} %{}",
                    epoch.loss,
                    distilled(self.config.adaptation.kd_ratio),
                    epoch.train_top1,
                    left_out(epoch.skipped)
                ));
            }
            progress.advance(1);
            let done = self.plan.done(state);
            if done == self.plan.round || done.is_multiple_of(every) {
                self.commit(state, false)?;
            }
        }
        progress.finish();
        Ok(true)
    }

    /// Back to the last proven checkpoint, with half the rate: to the start of the round that is under way,
    /// or where its predecessor's weights turn out to be bad, of that.
    fn roll_back(&mut self, state: &mut State, reason: &Reason) -> Result<(), Error> {
        let at = state.adaptation.steps;
        let checkpoint = self.run.latest_proven(STAGE)?.checkpoint.ok_or(run::Error::NoCheckpoint)?;
        let mut restored = State::read(&checkpoint)?;
        let adaptation = &mut restored.adaptation;
        let Adaptation { rate, clip, batch, .. } = self.config.adaptation;
        let remedy = Remedy { section: "adaptation", rate: ("rate", rate), clip: Some(clip), batch };
        adaptation.watch = state.adaptation.watch.rolled_back(adaptation.watch.clone(), reason, remedy)?;
        adaptation.rollbacks += 1;
        self.output.note(&format!(
            "adaptation, step {at}: {reason}; back to step {} with {} of the rate",
            adaptation.steps,
            adaptation.watch.rate_factor()
        ));
        *state = restored;
        if let Some(adapter) = &mut self.adapter {
            adapter.read(&state.adaptation, &checkpoint)?;
        }
        let number = self.plan.number(state);
        self.journal.rewind(STAGE, Some(number))?;
        self.journal.append(STAGE, number, "rollback", &reason.to_string())?;
        self.commit(state, true)
    }

    /// Goes on with the weights of a checkpoint.
    fn take_weights(&mut self, state: &State, checkpoint: &Checkpoint) -> Result<(), Error> {
        let Some(adapter) = &mut self.adapter else { return Ok(()) };
        adapter.read(&state.adaptation, checkpoint)?;
        // Within a round the old weights are needed no more, and the new are not done.
        if state.adaptation.steps > 0 && state.adaptation.pending.is_none() {
            self.meter.adapt(adapter.weights()?)?;
        }
        Ok(())
    }

    /// Test accuracies of the front, measured once; `false` if a stop was asked for first.
    fn test(&mut self, state: &mut State) -> Result<bool, Error> {
        let front = state.archive.front(&self.config.search.objectives);
        let genotypes: Vec<_> = front.into_iter().map(|entry| entry.genotype).collect();
        let test = if self.evaluator.dataset().split(crate::data::Split::Test).is_empty() {
            self.output.note("the data set has no test images: the front keeps its validation accuracies");
            return Ok(true);
        } else {
            self.meter.test(&genotypes)?
        };
        let Some(test) = test else { return Ok(false) };
        state.test_top1 = Some(test);
        self.commit(state, false)?;
        self.publish(state)?;
        Ok(true)
    }

    fn survival(&self) -> moo::Algorithm {
        algorithm(self.config.search.algorithm, self.config.search.objectives.len())
    }

    /// Writes down what an iteration did: journal, checkpoint, results, a line for the user.
    fn record(
        &mut self,
        state: &mut State,
        predicted: Predicted,
        adaptation: Option<Adapted>,
    ) -> Result<(), Error> {
        let objectives = &self.config.search.objectives;
        let done = Iteration {
            iteration: state.iteration,
            evaluations: state.evaluations,
            archive: state.archive.entries.len(),
            front: state.archive.front(objectives).len(),
            best_top1: state.archive.entries.iter().map(super::Entry::top1).fold(0.0, f64::max),
            hypervolume: state.archive.hypervolume(objectives, &state.reference)?,
            rmse: predicted.rmse,
            spearman: predicted.spearman,
            kendall: predicted.kendall,
            adaptation,
        };
        let tau = done.kendall.map(|tau| format!(", predictor tau {tau:.2}")).unwrap_or_default();
        let adapted = done.adaptation.map(|a| {
            format!(", adapted (archive {:.2} % to {:.2} % on average)", a.top1_before, a.top1_after)
        });
        let adapted = adapted.unwrap_or_default();
        self.output.note(&format!(
            "iteration {:>2}: {} evaluations, hypervolume {:.5}, best {:.2} %, {} in the front{tau}{adapted}",
            done.iteration, done.evaluations, done.hypervolume, done.best_top1, done.front
        ));
        let number = self.plan.number(state);
        self.journal.append(STAGE, number, "iteration", &done)?;
        let front = FrontPoints::of(&state.archive, objectives, state.iteration);
        self.journal.append(STAGE, number, FrontPoints::EVENT, &front)?;
        state.history.push(done);
        // Where nothing adapts, nothing goes back either.
        self.commit(state, false)?;
        self.publish(state)
    }

    /// The state with its weights, all of it or nothing.
    fn commit(&self, state: &mut State, proven: bool) -> Result<(), Error> {
        self.meter.sync()?;
        let mut checkpoint = self.run.checkpoint(STAGE, self.plan.number(state))?;
        if let Some(adapter) = &self.adapter {
            adapter.write(&mut state.adaptation, &mut checkpoint)?;
        }
        checkpoint.add(STATE_FILE, &state.to_bytes())?;
        let checkpoint = if proven { checkpoint.proven() } else { checkpoint };
        Ok(checkpoint.commit()?)
    }

    fn publish(&self, state: &State) -> Result<(), Error> {
        for (name, bytes) in results::files(self.evaluator.space(), self.config, state)? {
            self.run.write_atomic(name, &bytes)?;
        }
        Ok(())
    }
}

/// How well candidates were predicted.
fn judged(candidates: &[Candidate], errors: &[f64]) -> Predicted {
    let pairs = candidates.iter().zip(errors).filter_map(|(c, &measured)| Some((c.predicted?, measured)));
    let (predicted, measured): (Vec<f64>, Vec<f64>) = pairs.unzip();
    Predicted {
        rmse: metrics::rmse(&predicted, &measured),
        spearman: metrics::spearman(&predicted, &measured),
        kendall: metrics::kendall(&predicted, &measured),
    }
}

fn mean_top1(archive: &Archive) -> f64 {
    archive.entries.iter().map(super::Entry::top1).sum::<f64>() / archive.entries.len() as f64
}

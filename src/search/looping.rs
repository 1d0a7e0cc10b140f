//! The loop of a search, from the newest checkpoint of a run directory to the end.

use super::about::About;
use super::adaptation::{Adapted, Adapter, Plan, Predicted};
use super::archive::algorithm;
use super::candidates::{Candidate, Proposal};
use super::measure::Meter;
use super::results::{self, FrontPoints, Summary};
use super::state::{STAGE, Snapshot, VERSION};
use super::{Archive, Error, Iteration, State, initial};

use crate::config::{Adaptation, Config};
use crate::data::Split;
use crate::evaluator::Evaluator;
use crate::moo;
use crate::predictor::metrics;
use crate::random::stream;
use crate::run::{Output, Progress, RunDirectory, StopFlag};
use crate::space::sample::Policy;
use crate::train::checks::Remedy;
use crate::train::record::{BeganWith, Stage};
use crate::train::training_loop::{self, Advanced};
use std::collections::HashSet;

type Run<'a> = training_loop::Run<'a, Snapshot>;

/// How a search ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over: its result, and the state that it ended in.
    Finished(Summary, Box<State>),
    /// A stop was asked for; the same command goes on.
    Stopped,
}

/// Runs the search of `config` in `directory` from where it stands; at its end, its result.
///
/// # Errors
/// Evaluating, predicting or writing fails; the run directory is as it was after the last iteration.
pub fn search(
    config: &Config,
    evaluator: &Evaluator,
    directory: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let cache = directory.cache("cache.jsonl")?;
    cache.warning().into_iter().for_each(|warning| output.note(warning));
    let meter = Meter::new(evaluator, config, cache, stop, output)?;
    let adapter = Adapter::new(config, evaluator)?;
    let Adaptation { rate, clip, batch, .. } = config.adaptation;
    let stage = Stage {
        name: STAGE,
        section: STAGE,
        inputs: "weights, images",
        remedy: Remedy { section: "adaptation", rate: ("rate", rate), clip: Some(clip), batch },
        began_with: BeganWith {
            version: VERSION,
            fingerprint: meter.fingerprint().into(),
            arithmetic: evaluator.engine().arithmetic(),
        },
        directory,
        stop,
        output,
    };
    let plan = Plan::new(&config.adaptation, evaluator.dataset().split(Split::Train).len());
    let fresh = |began_with| Snapshot { state: State { began_with, ..State::default() }, team: None, plan };
    let (mut run, begins) = Run::open(stage, fresh, |stored| Snapshot::read(stored, evaluator, plan))?;
    let mut search = Search { config, evaluator, meter, adapter };
    if begins {
        directory.check_writable()?;
        if !search.begin(&mut run)? {
            return Ok(Outcome::Stopped);
        }
    } else {
        // Within a round the old weights are needed no more, and the new are not done.
        if let (Some(team), None) = (&run.snapshot.team, run.snapshot.state.adaptation.pending) {
            search.meter.adapt(team.weights.clone())?;
        }
        // A kill may have come between the checkpoint and these.
        search.publish(&run)?;
    }
    // Only now: the run may have begun with other weights or data, and then says so.
    About::of(evaluator).publish(directory)?;
    if run.snapshot.state.iteration < config.search.iterations as u64 {
        directory.check_writable()?;
    }
    if !run.until_done(|run| search.advance(run))? {
        return Ok(Outcome::Stopped);
    }
    if let Some(adapter) = &search.adapter {
        adapter.publish(&run.snapshot, directory)?;
    }
    if search.meter.saving().executions > 0 {
        output.note(&search.meter.saving().to_string());
    }
    let state = run.snapshot.state;
    let summary = Summary::new(evaluator.space(), config, &state, directory.path())?;
    Ok(Outcome::Finished(summary, Box::new(state)))
}

struct Search<'a> {
    config: &'a Config,
    evaluator: &'a Evaluator,
    meter: Meter<'a>,
    adapter: Option<Adapter<'a>>,
}

impl Search<'_> {
    /// The initial archive; `false` if a stop was asked for first.
    fn begin(&mut self, run: &mut Run<'_>) -> Result<bool, Error> {
        let (seed, search, space) = (self.config.seed, &self.config.search, self.evaluator.space());
        let drawn = initial::draw(space, search.initialisation, search.archive, search.oversample, seed)?;
        let bounds = initial::bounds(space);
        let all: Vec<_> = drawn.iter().chain(&bounds).cloned().collect();
        let Some(mut entries) = self.meter.measure(&all, "initial archive")? else { return Ok(false) };
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
        let state = &mut run.snapshot.state;
        state.reference = archive.reference(&search.objectives);
        state.archive = archive;
        state.evaluations = all.len();
        state.seen = all;
        state.seen.sort();
        self.end_iteration(Predicted::default(), None, run)?;
        Ok(true)
    }

    /// Goes on by an iteration, or from the last to the end.
    fn advance(&mut self, run: &mut Run<'_>) -> Result<Advanced, Error> {
        let ended = |done: bool, then: Advanced| if done { then } else { Advanced::Stopped };
        let state = &run.snapshot.state;
        if state.iteration < self.config.search.iterations as u64 {
            let done = !run.stage.stop.requested() && self.iterate(run)?;
            return Ok(ended(done, Advanced::Further));
        }
        Ok(ended(state.test_top1.is_some() || self.test(run)?, Advanced::ToTheEnd))
    }

    /// One iteration, or the rest of one; `false` if a stop was asked for before it was done.
    fn iterate(&mut self, run: &mut Run<'_>) -> Result<bool, Error> {
        if run.snapshot.state.adaptation.pending.is_none() {
            let state = &mut run.snapshot.state;
            let Some(predicted) = self.evaluate_candidates(state)? else { return Ok(false) };
            if self.adapter.is_none() {
                state.iteration += 1;
                self.end_iteration(predicted, None, run)?;
                return Ok(true);
            }
            state.adaptation.pending = Some(predicted);
            // The candidates were measured with the weights that the last round left.
            run.commit(true)?;
        }
        Ok(self.train(run)? && self.evaluate_archive(run)?)
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

    /// The training of the round that is under way, from where it stands; `false` if a stop was asked
    /// for before its end.
    fn train(&mut self, run: &mut Run<'_>) -> Result<bool, Error> {
        let Some(adapter) = &mut self.adapter else { return Ok(true) };
        let mut round = adapter.round(&run.snapshot)?;
        let Snapshot { state, plan, .. } = &run.snapshot;
        let what = format!("adaptation {}/{}", state.iteration + 1, self.config.search.iterations);
        let progress = Progress::start(run.stage.output, what, plan.done(state), plan.round);
        run.steps(&mut round, progress, 1)
    }

    /// Measures the archive again with the weights that the round left; `false` if a stop was asked for first.
    fn evaluate_archive(&mut self, run: &mut Run<'_>) -> Result<bool, Error> {
        let Snapshot { state, team, plan } = &mut run.snapshot;
        let (Some(team), Some(predicted)) = (team, state.adaptation.pending) else { return Ok(true) };
        self.meter.adapt(team.weights.clone())?;
        let genotypes: Vec<_> = state.archive.entries.iter().map(|e| e.genotype.clone()).collect();
        let Some(entries) = self.meter.measure(&genotypes, "evaluating the archive again")? else {
            return Ok(false);
        };
        let adapted = Adapted {
            steps: plan.round,
            loss: state.adaptation.epochs.last().map_or(f64::NAN, |epoch| epoch.loss),
            reevaluated: entries.len(),
            top1_before: mean_top1(&state.archive),
            top1_after: mean_top1(&Archive { entries: entries.clone() }),
        };
        state.archive.entries = entries;
        state.adaptation.pending = None;
        state.adaptation.reevaluations += adapted.reevaluated;
        state.iteration += 1;
        run.append("reevaluation", &adapted)?;
        self.end_iteration(predicted, Some(adapted), run)?;
        Ok(true)
    }

    /// Test accuracies of the front, measured once; `false` if a stop was asked for first.
    fn test(&mut self, run: &mut Run<'_>) -> Result<bool, Error> {
        let front = run.snapshot.state.archive.front(&self.config.search.objectives);
        let genotypes: Vec<_> = front.into_iter().map(|entry| entry.genotype).collect();
        let test = if self.evaluator.dataset().split(crate::data::Split::Test).is_empty() {
            run.stage
                .output
                .note("the data set has no test images: the front keeps its validation accuracies");
            return Ok(true);
        } else {
            self.meter.test(&genotypes)?
        };
        let Some(test) = test else { return Ok(false) };
        run.snapshot.state.test_top1 = Some(test);
        run.commit(false)?;
        self.publish(run)?;
        Ok(true)
    }

    fn survival(&self) -> moo::Algorithm {
        algorithm(self.config.search.algorithm, self.config.search.objectives.len())
    }

    /// Writes down what an iteration did: journal, checkpoint, results, a line for the user.
    fn end_iteration(
        &self,
        predicted: Predicted,
        adaptation: Option<Adapted>,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let state = &mut run.snapshot.state;
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
        run.stage.output.note(&format!(
            "iteration {:>2}: {} evaluations, hypervolume {:.5}, best {:.2} %, {} in the front{tau}{adapted}",
            done.iteration, done.evaluations, done.hypervolume, done.best_top1, done.front
        ));
        let front = FrontPoints::of(&state.archive, objectives, state.iteration);
        state.history.push(done.clone());
        run.append("iteration", &done)?;
        run.append(FrontPoints::EVENT, &front)?;
        // Where nothing adapts, nothing goes back either.
        run.commit(false)?;
        self.publish(run)
    }

    fn publish(&self, Run { stage, snapshot, .. }: &Run<'_>) -> Result<(), Error> {
        for (name, bytes) in results::files(self.evaluator.space(), self.config, &snapshot.state)? {
            stage.directory.write_atomic(name, &bytes)?;
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

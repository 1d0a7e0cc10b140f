//! `natv2 bench search`: the parts of a search's iteration, and a whole one.
//!
//! The archive is a real one: networks drawn and evaluated as a search of this configuration begins.
//! Each part then runs on it over and over, always the same work: fitting the predictor, asking it,
//! the inner search (of which NSGA-III itself is what predictions and costs leave), the subset
//! selection, evaluating the candidates, and one iteration from the fit to the new archive. Nothing
//! is written; a search also keeps its run directory.

use super::rounds::{self, Times};
use crate::config::{Config, Objective};
use crate::data::Split;
use crate::evaluator::Evaluator;
use crate::moo::evolve::{self, Problem};
use crate::moo::{Points, subset};
use crate::predictor::{Ensemble, Features};
use crate::random::stream;
use crate::search::candidates::{InnerProblem, Proposal};
use crate::search::{Archive, Entry, Error, algorithm, initial, points};
use crate::space::sample::Policy;
use crate::space::walk::Exits;
use crate::space::{Arch, Genotype, Space, cost};
use serde::Serialize;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

/// Networks that the predictor is asked about at a time.
const ASKED: usize = 2000;

/// A part of an iteration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// Its time.
    pub seconds: Times,
}

/// The figures of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// The device that networks run on.
    pub device: String,
    /// Threads of everything else.
    pub threads: usize,
    /// The data set.
    pub data: String,
    /// Networks in the archive.
    pub archive: usize,
    /// Networks evaluated in an iteration.
    pub candidates: usize,
    /// Images that they are measured on.
    pub images: usize,
    /// Images that recalibrate.
    pub calibration_images: usize,
    /// Seconds that the evaluations of the first archive took, once.
    pub initial_seconds: f64,
    /// How many they were.
    pub initial_evaluations: usize,
    /// The parts; the last is a whole iteration.
    pub parts: Vec<Row>,
}

/// The search that is measured: what it knows after its start.
struct BegunSearch<'a> {
    evaluator: &'a Evaluator,
    config: &'a Config,
    archive: Archive,
    seen: HashSet<Genotype>,
}

impl BegunSearch<'_> {
    fn space(&self) -> &Space {
        self.evaluator.space()
    }

    fn classes(&self) -> usize {
        self.evaluator.engine().supernet().classes()
    }

    fn evaluate(&self, genotypes: &[Genotype]) -> Result<Vec<Entry>, Error> {
        evaluate(self.evaluator, self.config, genotypes)
    }

    fn fit(&self) -> Result<Ensemble, Error> {
        self.proposal().fit(|entry| Some(entry.error()))
    }

    fn proposal(&self) -> Proposal<'_> {
        Proposal {
            space: self.space(),
            classes: self.classes(),
            config: self.config,
            archive: &self.archive,
            seen: &self.seen,
            iteration: 1,
        }
    }

    /// Fit, inner search, subset, evaluation, survival, hypervolume.
    fn iteration(&self) -> Result<f64, Error> {
        let search = &self.config.search;
        let candidates = self.proposal().propose()?;
        let genotypes: Vec<Genotype> = candidates.into_iter().map(|candidate| candidate.genotype).collect();
        let mut archive = self.archive.clone();
        archive.extend(self.evaluate(&genotypes)?);
        let survival = algorithm(search.algorithm, search.objectives.len());
        let mut rng = stream(self.config.seed, "search/survival", 1, 0);
        archive.survive(&search.objectives, search.archive, survival, &mut rng)?;
        let reference = self.archive.reference(&search.objectives);
        archive.hypervolume(&search.objectives, &reference)
    }
}

fn evaluate(evaluator: &Evaluator, config: &Config, genotypes: &[Genotype]) -> Result<Vec<Entry>, Error> {
    let space = evaluator.space();
    let archs: Vec<Arch> = genotypes.iter().map(|g| space.decode(g)).collect::<Result<_, _>>()?;
    let found = evaluator.evaluate(&archs, Split::Val, config.search.eval_images, &|| false, &|_, _| ())?;
    let classes = evaluator.engine().supernet().classes();
    let entry = |((genotype, arch), result): ((&Genotype, &Arch), crate::engine::Evaluation)| {
        Ok(Entry {
            genotype: genotype.clone(),
            correct: result.correct,
            images: result.images,
            loss: result.loss,
            cost: cost(space.channels(arch)?, arch, Exits::single(arch), classes),
            latency_ms: None,
        })
    };
    // Nothing asks for a stop, so there always are results.
    genotypes.iter().zip(&archs).zip(found.unwrap_or_default()).map(entry).collect()
}

/// The inner search's problem, with the time that its objectives take.
struct TimedProblem<'a> {
    inner: &'a InnerProblem<'a>,
    seconds: Cell<f64>,
}

impl Problem for TimedProblem<'_> {
    fn upper(&self) -> &[u8] {
        self.inner.upper()
    }

    fn lower(&self) -> &[u8] {
        self.inner.lower()
    }

    fn repair(&self, genome: &mut [u8]) {
        self.inner.repair(genome);
    }

    fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
        let start = Instant::now();
        let points = self.inner.evaluate(genomes);
        self.seconds.set(self.seconds.get() + start.elapsed().as_secs_f64());
        points
    }
}

/// Measures the parts of an iteration of the search that `config` describes. Latencies are not
/// among its objectives: they are measurements of their own.
///
/// # Errors
/// As a search; see [`Error`].
pub fn run(evaluator: &Evaluator, config: &Config, rounds: usize) -> Result<Report, Error> {
    let search = &config.search;
    let space = evaluator.space();
    let drawn = initial::draw(space, search.initialisation, search.archive, search.oversample, config.seed)?;
    let all: Vec<Genotype> = drawn.into_iter().chain(initial::bounds(space)).collect();
    let start = Instant::now();
    let mut archive = Archive { entries: evaluate(evaluator, config, &all)? };
    let initial_seconds = start.elapsed().as_secs_f64();
    let survival = algorithm(search.algorithm, search.objectives.len());
    let mut rng = stream(config.seed, "search/survival", 0, 0);
    archive.survive(&search.objectives, search.archive, survival, &mut rng)?;
    let begun = BegunSearch { evaluator, config, archive, seen: all.iter().cloned().collect() };

    let mut parts = Vec::new();
    let mut part = |name: String, seconds: Times| parts.push(Row { name, seconds });
    let rows = begun.archive.entries.len();
    let models = search_models(config, rows);
    part(
        format!("predictor: fit {models} models to {rows} rows"),
        rounds::time(rounds, || begun.fit().map(drop))?,
    );
    let error = begun.fit()?;
    let mut asked = Vec::with_capacity(ASKED);
    let mut rng = stream(config.seed, "bench/search", 0, 0);
    for _ in 0..ASKED {
        asked.push(crate::space::sample::sample(space, Policy::NatV2, &mut rng));
    }
    let features = Features::from_rows(&asked)?;
    part(
        format!("predictor: {ASKED} predictions"),
        rounds::time(rounds, || {
            std::hint::black_box(error.predict(&features));
            Ok::<_, Error>(())
        })?,
    );

    let settings = evolve::Settings {
        algorithm: survival,
        population: search.population,
        generations: search.generations,
        ..evolve::Settings::default()
    };
    let proposal = begun.proposal();
    let inner = InnerProblem { proposal: &proposal, error, latency: None };
    let (mut whole, mut own, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.max(1) + 1 {
        let timed = TimedProblem { inner: &inner, seconds: Cell::new(0.0) };
        let start = Instant::now();
        let outcome = evolve::run(&timed, &settings, &mut stream(config.seed, "search/inner", 1, 0))?;
        let seconds = start.elapsed().as_secs_f64();
        if round > 0 {
            whole.push(seconds);
            own.push(seconds - timed.seconds.get());
        }
        last = outcome.genomes;
    }
    let size = format!("{} individuals, {} generations", search.population, search.generations);
    part(format!("inner search: {size}"), Times::of(whole));
    part(format!("  of it {survival:?} itself"), Times::of(own));

    let costs: Vec<Objective> = search.objectives.iter().copied().filter(|&o| o != Objective::Top1).collect();
    let fresh: Vec<Genotype> = last.into_iter().filter(|genome| !begun.seen.contains(genome)).collect();
    if !costs.is_empty() && !fresh.is_empty() {
        let offered = inner.costs(&fresh, &costs)?;
        let front = points(&begun.archive.front(&search.objectives), &costs);
        let subset =
            subset::Settings { population: search.subset_population, generations: search.subset_generations };
        let time = rounds::time(rounds, || {
            let mut rng = stream(config.seed, "search/subset", 1, 0);
            subset::select(&front, &offered, search.candidates, &subset, &mut rng).map(drop)
        })?;
        part(format!("candidate selection: {} of {}", search.candidates, fresh.len()), time);
    }
    let candidates: Vec<Genotype> =
        begun.proposal().propose()?.into_iter().map(|candidate| candidate.genotype).collect();
    let time = rounds::time(rounds, || begun.evaluate(&candidates).map(drop))?;
    part(format!("evaluating {} candidates", candidates.len()), time);
    part("a whole iteration".into(), rounds::time(rounds, || begun.iteration().map(drop))?);

    let images = evaluator.images(Split::Val, search.eval_images)?;
    Ok(Report {
        version: 1,
        device: evaluator.engine().device().describe(),
        threads: rayon::current_num_threads(),
        data: evaluator.dataset().name().into(),
        archive: rows,
        candidates: candidates.len(),
        images: crate::engine::Images::len(&images),
        calibration_images: evaluator.calibration_images(),
        initial_seconds,
        initial_evaluations: all.len(),
        parts,
    })
}

/// Models of the ensemble.
fn search_models(config: &Config, rows: usize) -> usize {
    config.predictor.folds.min(rows).max(1)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} threads: {}, archive of {}, {} candidates on {} images, recalibrated on {}",
            self.device,
            self.threads,
            self.data,
            self.archive,
            self.candidates,
            self.images,
            self.calibration_images
        )?;
        let each = self.initial_evaluations as f64 / self.initial_seconds;
        writeln!(
            f,
            "the start: {} evaluations in {:.2} s, {each:.1} a second\n",
            self.initial_evaluations, self.initial_seconds
        )?;
        writeln!(f, "{:<48} {:>10} {:>8}", "part", "ms", "spread")?;
        for row in &self.parts {
            let Times { median, .. } = row.seconds;
            writeln!(f, "{:<48} {:>10.3} {:>7.0}%", row.name, 1e3 * median, 100.0 * row.seconds.spread())?;
        }
        Ok(())
    }
}

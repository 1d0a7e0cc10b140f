//! `comparison.json`: what a comparison came to.
//!
//! It holds no time, no path and no machine's name, so equal runs give equal bytes.

use super::Variant;
use super::budget::Budget;
use crate::config::Objective;
use crate::moo::{self, Points};
use crate::search::results::FrontPoints;
use crate::search::{Entry, Error, State, points};
use crate::space::Genotype;
use crate::space::numbers::order;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in the directory of a comparison.
pub const FILE: &str = "comparison.json";
/// Version of its form.
pub const VERSION: u32 = 1;

/// A network of a front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its canonical genotype.
    pub genotype: Genotype,
    /// Validation accuracy, per cent.
    pub top1: f64,
    /// Test accuracy, per cent, where there are test images.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_top1: Option<f64>,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Milliseconds of a forward pass, where it is an objective.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<f64>,
}

/// A search as it stood after an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The iteration; 0 is the initial archive.
    pub iteration: u64,
    /// Evaluations so far, repeated ones included.
    pub evaluations: usize,
    /// Best validation accuracy in the archive, per cent.
    pub top1: f64,
    /// Share of the box between the origin and [`Comparison::reference`] that the archive dominates.
    pub hypervolume: Option<f64>,
    /// Kendall's tau of the predictor on the iteration's candidates.
    pub tau: Option<f64>,
}

/// The search of a variant with a seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Different networks that were evaluated.
    pub networks: usize,
    /// Evaluations, repeated ones included.
    pub evaluations: usize,
    /// Steps that the super-network trained.
    pub adaptation_steps: u64,
    /// The network of the highest validation accuracy (of several the one with the fewest MACs).
    pub best: Network,
    /// Hypervolume of the final archive, with the common reference point.
    pub hypervolume: f64,
    /// Kendall's tau of the predictor, mean over the iterations.
    pub tau: Option<f64>,
    /// The front on the validation images, by MACs: the numbers that `natv2 export` takes.
    pub front: Vec<Network>,
    /// The search after each iteration.
    pub steps: Vec<Step>,
}

/// A value over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample (n - 1); none of a single seed.
    pub deviation: Option<f64>,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of some values; `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let count = values.len() as f64;
        let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Spread { mean, deviation, least, most })
    }
}

/// A variant over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// Its settings over the common configuration, those of an equal budget included.
    pub settings: Vec<String>,
    /// Best validation accuracy, per cent.
    pub top1: Option<Spread>,
    /// Test accuracy of the same networks, per cent.
    pub test_top1: Option<Spread>,
    /// Their parameters.
    pub params: Option<Spread>,
    /// Their multiply-accumulates.
    pub macs: Option<Spread>,
    /// Hypervolume of the final archive.
    pub hypervolume: Option<Spread>,
    /// Kendall's tau of the predictor.
    pub tau: Option<Spread>,
    /// Its searches, by seed.
    pub runs: Vec<Run>,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Version of this form.
    pub version: u32,
    /// Name of the data set.
    pub data: String,
    /// What is traded off.
    pub objectives: Vec<Objective>,
    /// The one reference point of all hypervolumes: in each objective (accuracy as error in per cent) the
    /// worst of the searches' own, which lie just behind the worst of their first archives.
    pub reference: Vec<f64>,
    /// How counts were chosen: `equal` or `as-is`.
    pub budget: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The variants, in the order in which they were asked for.
    pub variants: Vec<VariantResult>,
    /// C-metric (Zitzler and Thiele, 1999): in row A and column B the share of B's front that at least one
    /// network of A's front equals or betters in every objective; mean over the seeds.
    pub coverage: Vec<Vec<Option<f64>>>,
}

/// A finished search.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedSearch {
    /// Its seed.
    pub seed: u64,
    /// The state that it ended in.
    pub state: State,
    /// The fronts that its journal holds, by iteration.
    pub fronts: Vec<FrontPoints>,
}

impl FinishedSearch {
    /// A search in the run directory `path`.
    ///
    /// # Errors
    /// A journal that is damaged.
    pub fn new(seed: u64, state: State, path: &Path) -> Result<FinishedSearch, Error> {
        Ok(FinishedSearch { seed, state, fronts: FrontPoints::read(path)? })
    }
}

impl Comparison {
    /// Compares the searches of some variants, each with the same seeds in the same order.
    pub fn new(
        data: &str,
        objectives: &[Objective],
        budget: Budget,
        searches: &[(Variant, Vec<FinishedSearch>)],
    ) -> Comparison {
        let all = || searches.iter().flat_map(|(_, runs)| runs);
        let reference: Vec<f64> = (0..objectives.len())
            .map(|m| all().filter_map(|run| run.state.reference.get(m)).fold(0.0, |worst, &r| r.max(worst)))
            .collect();
        let variants: Vec<VariantResult> =
            searches.iter().map(|(variant, runs)| compared(variant, runs, objectives, &reference)).collect();
        let fronts: Vec<Vec<Points>> = searches
            .iter()
            .map(|(_, runs)| {
                runs.iter().map(|run| points(&run.state.archive.front(objectives), objectives)).collect()
            })
            .collect();
        let coverage = |a: usize, b: usize| {
            let shares: Vec<f64> = fronts[a].iter().zip(&fronts[b]).map(|(a, b)| covered(a, b)).collect();
            if a == b { None } else { Spread::of(&shares).map(|spread| spread.mean) }
        };
        let every = 0..searches.len();
        Comparison {
            version: VERSION,
            data: data.into(),
            objectives: objectives.to_vec(),
            reference,
            budget: budget.as_str().into(),
            seeds: searches
                .first()
                .map(|(_, runs)| runs.iter().map(|run| run.seed).collect())
                .unwrap_or_default(),
            coverage: every.clone().map(|a| every.clone().map(|b| coverage(a, b)).collect()).collect(),
            variants,
        }
    }

    /// The bytes of `comparison.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a comparison holds nothing that JSON cannot");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a `comparison.json`; `file` is for messages.
    ///
    /// # Errors
    /// Bytes that are no comparison of this version.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Comparison, Error> {
        let refuse = |reason: String| Error::Comparison { file: file.into(), reason };
        let comparison: Comparison = serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))?;
        match comparison.version {
            VERSION => Ok(comparison),
            other => Err(refuse(format!("version {other}, and {VERSION} is known"))),
        }
    }
}

fn compared(
    variant: &Variant,
    runs: &[FinishedSearch],
    objectives: &[Objective],
    reference: &[f64],
) -> VariantResult {
    let runs: Vec<Run> = runs.iter().filter_map(|finished| run(finished, objectives, reference)).collect();
    let spread = |value: &dyn Fn(&Run) -> Option<f64>| {
        // Of some seeds alone it would compare with nothing.
        runs.iter().map(value).collect::<Option<Vec<f64>>>().and_then(|values| Spread::of(&values))
    };
    VariantResult {
        name: variant.name.clone(),
        settings: variant.listed(),
        top1: spread(&|run| Some(run.best.top1)),
        test_top1: spread(&|run| run.best.test_top1),
        params: spread(&|run| Some(run.best.params as f64)),
        macs: spread(&|run| Some(run.best.macs as f64)),
        hypervolume: spread(&|run| Some(run.hypervolume)),
        tau: spread(&|run| run.tau),
        runs,
    }
}

/// `None` for a search without a network, which none is.
fn run(finished: &FinishedSearch, objectives: &[Objective], reference: &[f64]) -> Option<Run> {
    let state = &finished.state;
    let mut front: Vec<Network> = state
        .archive
        .front(objectives)
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            network(entry, state.test_top1.as_ref().and_then(|test| test.get(index)).copied())
        })
        .collect();
    front.sort_by(|a, b| order((a.macs, Some(&a.genotype)), (b.macs, Some(&b.genotype))));
    let better = |a: &&Network, b: &&Network| a.top1.total_cmp(&b.top1).then_with(|| b.macs.cmp(&a.macs));
    // Of equals `max_by` takes the last: backwards, so that genotypes decide as they do elsewhere.
    let best = front.iter().rev().max_by(better)?.clone();
    let taus: Vec<f64> = state.history.iter().filter_map(|done| done.kendall).collect();
    let mut again = 0;
    let steps = state.history.iter().map(|done| {
        again += done.adaptation.map_or(0, |adapted| adapted.reevaluated);
        let front = finished.fronts.iter().find(|front| front.iteration == done.iteration);
        Step {
            iteration: done.iteration,
            evaluations: done.evaluations + again,
            top1: done.best_top1,
            hypervolume: front.map(|front| share(front.points.iter(), reference)),
            tau: done.kendall,
        }
    });
    let steps: Vec<Step> = steps.collect();
    Some(Run {
        seed: finished.seed,
        networks: state.evaluations,
        evaluations: state.evaluations + state.adaptation.reevaluations,
        adaptation_steps: state.adaptation.steps,
        best,
        hypervolume: share(points(&state.archive.entries, objectives).rows(), reference),
        tau: Spread::of(&taus).map(|spread| spread.mean),
        front,
        steps,
    })
}

fn network(entry: &Entry, test_top1: Option<f64>) -> Network {
    Network {
        genotype: entry.genotype.clone(),
        top1: entry.top1(),
        test_top1,
        params: entry.cost.params,
        macs: entry.cost.macs,
        latency_ms: entry.latency_ms,
    }
}

impl Network {
    /// The value of an objective as people read it: accuracy, not error.
    pub fn value(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Top1 => self.top1,
            Objective::Params => self.params as f64,
            Objective::Macs => self.macs as f64,
            Objective::Latency => self.latency_ms.unwrap_or(f64::NAN),
        }
    }
}

/// Share of the box between the origin and `reference` that points dominate.
fn share<R: AsRef<[f64]>>(rows: impl Iterator<Item = R>, reference: &[f64]) -> f64 {
    let scaled =
        rows.map(|row| -> Vec<f64> { row.as_ref().iter().zip(reference).map(|(x, r)| x / r).collect() });
    let scaled: Vec<Vec<f64>> = scaled.filter(|row| row.len() == reference.len()).collect();
    moo::hypervolume::hypervolume(&Points::from_rows(reference.len(), scaled), &vec![1.0; reference.len()])
}

/// The share of the points of `b` that some point of `a` equals or betters in every objective.
fn covered(a: &Points, b: &Points) -> f64 {
    let covers = |row: &&[f64]| a.rows().any(|other| other.iter().zip(*row).all(|(x, y)| x <= y));
    b.rows().filter(covers).count() as f64 / b.len().max(1) as f64
}

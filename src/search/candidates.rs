//! Which networks to evaluate next.
//!
//! A predictor is fitted to the archive. An evolutionary search minimises its predicted error
//! together with the exact costs (NATv2, `_next`). Of the last generation, what was evaluated before
//! is dropped, and a subset is chosen whose costs fill the gaps of the archive's front.

use super::archive::algorithm;
use super::initial::distinct;
use super::{Archive, Error, points};
use crate::config::{self, Config, Objective};
use crate::moo::evolve::{self, Problem};
use crate::moo::{Points, subset};
use crate::predictor::{self, Ensemble, Features};
use crate::random::stream;
use crate::space::sample::Policy;
use crate::space::walk::Exits;
use crate::space::{Genotype, Repair, Space, cost};
use std::collections::HashSet;

/// A network to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its canonical genotype.
    pub genotype: Genotype,
    /// The error that the predictor expects, in per cent; `None` for a random network.
    pub predicted: Option<f64>,
}

/// What proposals are made from.
pub struct Proposal<'a> {
    /// The space.
    pub space: &'a Space,
    /// Classes of the super-network.
    pub classes: usize,
    /// The configuration.
    pub config: &'a Config,
    /// The archive.
    pub archive: &'a Archive,
    /// Networks not to propose again.
    pub seen: &'a HashSet<Genotype>,
    /// The iteration, from 1.
    pub iteration: u64,
}

impl Proposal<'_> {
    /// The networks to evaluate in this iteration: `search.candidates` of them, all different and
    /// none seen before.
    ///
    /// # Errors
    /// A predictor or optimiser that refuses its input; a space with too few networks.
    pub fn propose(&self) -> Result<Vec<Candidate>, Error> {
        let search = &self.config.search;
        let mut chosen = match search.method {
            config::Method::Random => Vec::new(),
            config::Method::Natv2 | config::Method::Nat => self.predicted()?,
        };
        // Random search, and what the inner search is short of.
        let mut taken = self.seen.clone();
        taken.extend(chosen.iter().map(|c: &Candidate| c.genotype.clone()));
        let missing = search.candidates.saturating_sub(chosen.len());
        let mut rng = stream(self.config.seed, "search/random", self.iteration, 0);
        let random = distinct(self.space, Policy::NatV2, missing, &mut taken, &mut rng)?;
        chosen.extend(random.into_iter().map(|genotype| Candidate { genotype, predicted: None }));
        Ok(chosen)
    }

    /// Candidates of the inner search.
    fn predicted(&self) -> Result<Vec<Candidate>, Error> {
        let (seed, search) = (self.config.seed, &self.config.search);
        let objectives = &search.objectives;
        let inner = InnerProblem {
            proposal: self,
            error: self.fit(|entry| Some(entry.error()))?,
            latency: if objectives.contains(&Objective::Latency) {
                Some(self.fit(|entry| entry.latency_ms)?)
            } else {
                None
            },
        };
        let settings = evolve::Settings {
            algorithm: algorithm(search.algorithm, objectives.len()),
            population: search.population,
            generations: search.generations,
            ..evolve::Settings::default()
        };
        let outcome = evolve::run(&inner, &settings, &mut stream(seed, "search/inner", self.iteration, 0))?;
        let fresh: Vec<Genotype> =
            outcome.genomes.into_iter().filter(|genotype| !self.seen.contains(genotype)).collect();
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let errors = inner.error.predict(&Features::from_rows(&fresh)?);
        let mut by_error: Vec<usize> = (0..fresh.len()).collect();
        by_error.sort_by(|&a, &b| errors[a].total_cmp(&errors[b]).then_with(|| fresh[a].cmp(&fresh[b])));

        let costs: Vec<Objective> = objectives.iter().copied().filter(|&o| o != Objective::Top1).collect();
        let mut chosen = if costs.is_empty() {
            Vec::new()
        } else {
            let front = points(&self.archive.front(objectives), &costs);
            let offered = inner.costs(&fresh, &costs)?;
            let settings = subset::Settings {
                population: search.subset_population,
                generations: search.subset_generations,
            };
            let mut rng = stream(seed, "search/subset", self.iteration, 0);
            subset::select(&front, &offered, search.candidates, &settings, &mut rng)?
        };
        for index in by_error {
            if chosen.len() < search.candidates && !chosen.contains(&index) {
                chosen.push(index);
            }
        }
        let candidate =
            |index: usize| Candidate { genotype: fresh[index].clone(), predicted: Some(errors[index]) };
        Ok(chosen.into_iter().map(candidate).collect())
    }

    /// A predictor of one measurement, fitted to the archive.
    pub(crate) fn fit(&self, target: impl Fn(&super::Entry) -> Option<f64>) -> Result<Ensemble, Error> {
        let config::Predictor { kind, encoding, folds, target_scaling } = self.config.predictor;
        let usual = predictor::Settings::default();
        let settings = predictor::Settings { kind, encoding, folds, target_scaling, ..usual };
        let rows = self.archive.entries.iter().filter_map(|e| Some((&e.genotype, target(e)?)));
        let (genotypes, targets): (Vec<&Genotype>, Vec<f64>) = rows.unzip();
        Ok(predictor::fit(&settings, &Features::from_rows(&genotypes)?, &targets, self.config.seed)?)
    }
}

/// The inner search's problem.
pub(crate) struct InnerProblem<'a> {
    pub(crate) proposal: &'a Proposal<'a>,
    pub(crate) error: Ensemble,
    pub(crate) latency: Option<Ensemble>,
}

impl InnerProblem<'_> {
    /// The objectives of many genotypes, all minimised.
    pub(crate) fn costs(&self, genotypes: &[Genotype], objectives: &[Objective]) -> Result<Points, Error> {
        let features = Features::from_rows(genotypes)?;
        let predict = |needed: Objective, ensemble: Option<&Ensemble>| match ensemble {
            Some(ensemble) if objectives.contains(&needed) => ensemble.predict(&features),
            _ => vec![0.0; genotypes.len()],
        };
        let errors = predict(Objective::Top1, Some(&self.error));
        let latencies = predict(Objective::Latency, self.latency.as_ref());
        let mut points = Points::with_capacity(objectives.len(), genotypes.len());
        let mut row = Vec::with_capacity(objectives.len());
        for (index, genotype) in genotypes.iter().enumerate() {
            let arch = self.proposal.space.decode(genotype)?;
            let channels = self.proposal.space.channels(&arch)?;
            let cost = cost(channels, &arch, Exits::single(&arch), self.proposal.classes);
            row.clear();
            row.extend(objectives.iter().map(|objective| match objective {
                Objective::Top1 => errors[index],
                Objective::Params => cost.params as f64,
                Objective::Macs => cost.macs as f64,
                Objective::Latency => latencies[index],
            }));
            points.push(&row);
        }
        Ok(points)
    }
}

impl Problem for InnerProblem<'_> {
    fn upper(&self) -> &[u8] {
        self.proposal.space.upper()
    }

    fn lower(&self) -> &[u8] {
        self.proposal.space.lower()
    }

    fn repair(&self, genome: &mut [u8]) {
        self.proposal.space.repair(genome, Repair::Fill);
    }

    fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
        // Repaired genomes always decode; should one not, its empty points are refused by the search.
        let objectives = &self.proposal.config.search.objectives;
        self.costs(genomes, objectives).unwrap_or_else(|_| Points::new(objectives.len()))
    }
}

//! Networks with what was measured of them, and the set that a search keeps.

use super::Error;
use crate::config::{self, Objective};
use crate::moo::{self, Points};
use crate::random::Stream;
use crate::space::{Cost, Genotype};
use serde::{Deserialize, Serialize};

/// A network and its measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its canonical genotype.
    pub genotype: Genotype,
    /// Correct answers on the validation split.
    pub correct: usize,
    /// Images of the validation split that were asked.
    pub images: usize,
    /// Mean cross entropy on them, in nats.
    pub loss: f64,
    /// Parameters and multiply-accumulates.
    pub cost: Cost,
    /// Time of a forward pass in milliseconds, where the search measures it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<f64>,
}

impl Entry {
    /// Validation accuracy in per cent.
    pub fn top1(&self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }

    /// Validation error in per cent, what predictors predict.
    pub fn error(&self) -> f64 {
        100.0 - self.top1()
    }
}

/// The value of an objective, to be minimised: accuracy counts as error in per cent.
pub fn objective_value(entry: &Entry, objective: Objective) -> f64 {
    match objective {
        Objective::Top1 => entry.error(),
        Objective::Params => entry.cost.params as f64,
        Objective::Macs => entry.cost.macs as f64,
        Objective::Latency => entry.latency_ms.unwrap_or(f64::INFINITY),
    }
}

/// The objectives of many networks.
pub fn points(entries: &[Entry], objectives: &[Objective]) -> Points {
    let row = |entry: &Entry| -> Vec<f64> { objectives.iter().map(|&o| objective_value(entry, o)).collect() };
    Points::from_rows(objectives.len(), entries.iter().map(row))
}

/// The networks that a search keeps, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Archive {
    /// The networks; no genotype twice.
    pub entries: Vec<Entry>,
}

impl Archive {
    /// Adds networks that are not in the archive yet.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if !self.contains(&entry.genotype) {
                self.entries.push(entry);
            }
        }
    }

    /// Whether a network is in the archive.
    pub fn contains(&self, genotype: &[u8]) -> bool {
        self.entries.iter().any(|entry| entry.genotype == genotype)
    }

    /// Keeps the `count` networks that survive under the objectives; the rest is removed.
    ///
    /// # Errors
    /// The algorithm does not fit the number of objectives.
    pub fn survive(
        &mut self,
        objectives: &[Objective],
        count: usize,
        algorithm: moo::Algorithm,
        rng: &mut Stream,
    ) -> Result<(), Error> {
        if self.entries.len() > count {
            let points = points(&self.entries, objectives);
            let mut kept = moo::survival::survive(&points, count, algorithm, DIRECTION_SEED, rng)?;
            kept.sort_unstable();
            self.entries = kept.into_iter().map(|index| self.entries[index].clone()).collect();
        }
        Ok(())
    }

    /// Keeps the `count` networks that came last.
    pub fn keep_newest(&mut self, count: usize) {
        self.entries.drain(..self.entries.len().saturating_sub(count));
    }

    /// The networks that no other dominates, sorted by genotype; of networks with the same values all.
    pub fn front(&self, objectives: &[Objective]) -> Vec<Entry> {
        let points = points(&self.entries, objectives);
        let front = moo::sorting::non_dominated(&points);
        let mut front: Vec<Entry> = front.into_iter().map(|index| self.entries[index].clone()).collect();
        front.sort_by(|a, b| a.genotype.cmp(&b.genotype));
        front
    }

    /// A point just behind the worst value of each objective: the reference of all hypervolumes of a
    /// search, fixed when it starts.
    pub fn reference(&self, objectives: &[Objective]) -> Vec<f64> {
        let points = points(&self.entries, objectives);
        let worst = |m: usize| points.rows().map(|row| row[m]).fold(0.0, f64::max);
        // An objective that is 0 for all still needs an extent.
        let behind = |worst: f64| if worst > 0.0 { 1.01 * worst } else { 1.0 };
        (0..objectives.len()).map(|m| behind(worst(m))).collect()
    }

    /// Share of the box between the origin and `reference` that the archive dominates.
    ///
    /// # Errors
    /// More objectives than hypervolumes are computed for.
    pub fn hypervolume(&self, objectives: &[Objective], reference: &[f64]) -> Result<f64, Error> {
        let scaled = self.entries.iter().map(|entry| -> Vec<f64> {
            objectives.iter().zip(reference).map(|(&o, r)| objective_value(entry, o) / r).collect()
        });
        let points = Points::from_rows(objectives.len(), scaled);
        Ok(moo::hypervolume::hypervolume(&points, &vec![1.0; objectives.len()]))
    }
}

/// Seed of the Riesz-energy directions, the same in every run as in NATv2.
const DIRECTION_SEED: u64 = 42;

/// The survival algorithm of a configuration.
pub fn algorithm(asked: config::Algorithm, objectives: usize) -> moo::Algorithm {
    match asked {
        _ if objectives == 1 => moo::Algorithm::Ga,
        config::Algorithm::Nsga3 => moo::Algorithm::Nsga3,
        config::Algorithm::Nsga2 => moo::Algorithm::Nsga2,
        config::Algorithm::Auto => moo::Algorithm::auto(objectives),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(gene: u8, correct: usize, params: u64) -> Entry {
        let cost = Cost { params, macs: params };
        Entry { genotype: vec![gene], correct, images: 100, loss: 1.0, cost, latency_ms: None }
    }

    const BOTH: [Objective; 2] = [Objective::Top1, Objective::Params];

    #[test]
    fn front_reference_and_hypervolume_follow_their_definitions() {
        let mut archive = Archive::default();
        archive.extend([entry(2, 90, 100), entry(1, 50, 20), entry(3, 40, 50), entry(2, 1, 1)]);
        assert_eq!(archive.entries.len(), 3, "no genotype twice");
        let front: Vec<u8> = archive.front(&BOTH).iter().map(|e| e.genotype[0]).collect();
        assert_eq!(front, [1, 2]);
        let reference = archive.reference(&BOTH);
        assert_eq!(reference, [1.01 * 60.0, 1.01 * 100.0]);
        let (error, size) = (|e: f64| e / reference[0], |p: f64| p / reference[1]);
        let expected =
            (1.0 - error(10.0)) * (1.0 - size(100.0)) + (1.0 - error(50.0)) * (size(100.0) - size(20.0));
        assert!((archive.hypervolume(&BOTH, &reference).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn survival_keeps_the_front_and_the_order() {
        let mut archive = Archive::default();
        archive.extend((0..20).map(|i| entry(i, 50 + 2 * usize::from(i), 100 + u64::from(i))));
        archive.extend([entry(30, 10, 500)]);
        let mut rng = crate::random::stream(0, "test", 0, 0);
        archive.survive(&BOTH, 20, moo::Algorithm::Nsga2, &mut rng).unwrap();
        let genes: Vec<u8> = archive.entries.iter().map(|e| e.genotype[0]).collect();
        assert_eq!(genes, (0..20).collect::<Vec<u8>>());
        archive.keep_newest(3);
        assert_eq!(archive.entries[0].genotype, [17]);
    }
}

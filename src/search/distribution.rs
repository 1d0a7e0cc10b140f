//! Distributions of genes, fitted to the best networks of an archive, that adaptation draws
//! sub-networks from (NAT, arXiv 2005.05859, section 3.3; NATv2).
//!
//! Genes are independent. Whatever a gene's distribution is, a draw from it is rounded and clamped to
//! the gene's bounds, so it comes down to a probability for each value: [`Distributions`] holds those.
//!
//! - `categorical`: the frequencies, with the same small count added to every value;
//! - `uniform`: the uniform distribution of the same mean and standard deviation, which is what
//!   NATv2's program most likely sampled;
//! - `best-fit`: of uniform, normal, triangular, beta, exponential and gamma, fitted by moments, the
//!   one whose probabilities are closest to the frequencies in squared error, as NAT intends.
//!
//! A gene is fitted only to the networks in which it has a meaning. In a canonical genotype the genes after a
//! skipped layer, and those of stages after the exit, are always zero. If they counted, every generation of
//! sub-networks would be shallower than the archive that it comes from.

use super::Entry;
use crate::config;
use crate::space::backbone::MAX_DEPTH;
use crate::space::{Genotype, Repair, Space};
use rand::{Rng, RngExt};

/// A distribution for every gene of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Distributions {
    genes: Vec<Gene>,
}

/// Probabilities of a gene's values.
#[derive(Debug, Clone, PartialEq)]
struct Gene {
    least: u8,
    /// Of `least`, the next, and so on; their sum is 1.
    probabilities: Vec<f64>,
}

impl Distributions {
    /// Fits distributions of a kind to networks of `space`; `smoothing` is what categorical ones add
    /// to every count. A gene that no network says anything about is uniform.
    pub fn fit(kind: config::Distribution, smoothing: f64, space: &Space, networks: &[Entry]) -> Self {
        let bounds = space.lower().iter().zip(space.upper()).enumerate();
        let genes = bounds.map(|(gene, (&least, &most))| {
            let mut counts = vec![0.0; usize::from(most - least) + 1];
            for entry in networks.iter().filter(|entry| says_something(space, &entry.genotype, gene)) {
                counts[usize::from(entry.genotype[gene].clamp(least, most) - least)] += 1.0;
            }
            let probabilities = match kind {
                _ if counts.iter().sum::<f64>() == 0.0 => normalised(vec![1.0; counts.len()]),
                config::Distribution::Categorical => {
                    normalised(counts.iter().map(|count| count + smoothing).collect())
                }
                config::Distribution::Uniform => uniform(&normalised(counts)),
                config::Distribution::BestFit => best_fit(&normalised(counts)),
            };
            Gene { least, probabilities }
        });
        Distributions { genes: genes.collect() }
    }

    /// The probabilities of the values of a gene, from its lower bound on.
    pub fn probabilities(&self, gene: usize) -> &[f64] {
        &self.genes[gene].probabilities
    }

    /// A network: every gene drawn, and all that follows a skipped layer skipped.
    pub fn sample(&self, space: &Space, rng: &mut impl Rng) -> Genotype {
        let mut genotype: Genotype = self.genes.iter().map(|gene| gene.draw(rng.random())).collect();
        space.repair(&mut genotype, Repair::Fill);
        genotype
    }
}

impl Gene {
    /// The value at `level` (0 to 1) of the cumulative probabilities.
    fn draw(&self, level: f64) -> u8 {
        let mut sum = 0.0;
        let mut below = |probability: &f64| {
            sum += probability;
            sum <= level
        };
        let index = self.probabilities.iter().take_while(|probability| below(probability)).count();
        // Rounding may leave the sum a little below 1: then the last value that can be.
        let last = self.probabilities.iter().rposition(|&probability| probability > 0.0).unwrap_or(0);
        self.least + index.min(last) as u8
    }
}

/// Whether a gene of a canonical genotype is more than a filler.
fn says_something(space: &Space, genotype: &[u8], gene: usize) -> bool {
    let first = space.first_layer_gene();
    let Some(layer) = gene.checked_sub(first) else { return true };
    let stage = layer / MAX_DEPTH;
    let behind_the_exit = space.family().early_exits && stage > usize::from(genotype[2]);
    !behind_the_exit && genotype[first + stage * MAX_DEPTH..gene].iter().all(|&before| before > 0)
}

fn normalised(mut weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Mean and standard deviation of a value from 0 with these probabilities.
fn moments(frequencies: &[f64]) -> (f64, f64) {
    let expectation = |f: &dyn Fn(f64) -> f64| -> f64 {
        frequencies.iter().enumerate().map(|(value, frequency)| frequency * f(value as f64)).sum()
    };
    let mean = expectation(&|value| value);
    (mean, expectation(&|value| (value - mean).powi(2)).sqrt())
}

/// Points that a density is looked at.
const CELLS: usize = 4096;

/// The probabilities of values from 0, `count` of them, when a draw from a density (up to a factor) on
/// an interval is rounded and clamped.
fn rounded(count: usize, (from, to): (f64, f64), density: impl Fn(f64) -> f64) -> Option<Vec<f64>> {
    let mut mass = vec![0.0; count];
    let width = (to - from) / CELLS as f64;
    for cell in 0..CELLS {
        // Midpoints: a density may be infinite at an end.
        let x = from + (cell as f64 + 0.5) * width;
        mass[x.round().clamp(0.0, (count - 1) as f64) as usize] += density(x);
    }
    let sum: f64 = mass.iter().sum();
    (sum.is_finite() && sum > 0.0).then(|| normalised(mass))
}

/// The moment-matched uniform distribution.
fn uniform(frequencies: &[f64]) -> Vec<f64> {
    let (mean, deviation) = moments(frequencies);
    let half = 3f64.sqrt() * deviation;
    // Without any spread all of it is at one value.
    rounded(frequencies.len(), (mean - half, mean + half), |_| 1.0).unwrap_or_else(|| frequencies.to_vec())
}

/// The family closest to the frequencies.
fn best_fit(frequencies: &[f64]) -> Vec<f64> {
    let (mean, deviation) = moments(frequencies);
    let count = frequencies.len();
    if deviation == 0.0 {
        return frequencies.to_vec();
    }
    // Families with ends have those of the values' cells.
    let (least, most) = (-0.5, count as f64 - 0.5);
    let (range, above) = (most - least, mean - least);
    let variance = deviation * deviation;
    let normal = rounded(count, (mean - 8.0 * deviation, mean + 8.0 * deviation), |x| {
        (-(x - mean).powi(2) / (2.0 * variance)).exp()
    });
    let mode = (3.0 * mean - least - most).clamp(least, most);
    let triangular = rounded(count, (least, most), |x| {
        if x < mode { (x - least) / (mode - least) } else { (most - x) / (most - mode) }
    });
    let place = above / range;
    let concentration = place * (1.0 - place) * range * range / variance - 1.0;
    let (alpha, beta) = (place * concentration, (1.0 - place) * concentration);
    let beta = (concentration > 0.0).then(|| {
        rounded(count, (least, most), |x| {
            let place = (x - least) / range;
            ((alpha - 1.0) * place.ln() + (beta - 1.0) * (1.0 - place).ln()).exp()
        })
    });
    let exponential = rounded(count, (least, least + 32.0 * above), |x| (-(x - least) / above).exp());
    let (shape, scale) = (above * above / variance, variance / above);
    let gamma = rounded(count, (least, mean + 16.0 * deviation), |x| {
        let z = (x - least) / scale;
        // Relative to the density at the mean, so that large shapes do not overflow.
        ((shape - 1.0) * (z / shape).ln() - (z - shape)).exp()
    });
    let error = |fit: &Vec<f64>| -> f64 { fit.iter().zip(frequencies).map(|(a, b)| (a - b).powi(2)).sum() };
    let fits = [Some(uniform(frequencies)), normal, triangular, beta.flatten(), exponential, gamma];
    let best = fits.into_iter().flatten().min_by(|a, b| error(a).total_cmp(&error(b)));
    best.unwrap_or_else(|| frequencies.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Distribution::{BestFit, Categorical, Uniform};
    use crate::random::stream;
    use crate::space::sample::{Policy, sample};
    use crate::space::{Cost, Family};

    fn entry(genotype: Genotype) -> Entry {
        let cost = Cost { params: 1, macs: 1 };
        Entry { genotype, correct: 1, images: 2, loss: 1.0, cost, latency_ms: None }
    }

    fn random(space: &Space, count: usize) -> Vec<Entry> {
        let mut rng = stream(3, "test", 0, 0);
        (0..count).map(|_| entry(sample(space, Policy::NatV2, &mut rng))).collect()
    }

    #[test]
    fn every_kind_draws_canonical_networks_of_every_family() {
        for family in Family::all() {
            let space = Space::paper(family);
            let networks = random(&space, 60);
            for kind in [Categorical, Uniform, BestFit] {
                let fitted = Distributions::fit(kind, 1.0, &space, &networks);
                for gene in 0..space.upper().len() {
                    let sum: f64 = fitted.probabilities(gene).iter().sum();
                    assert!((sum - 1.0).abs() < 1e-9, "{family} {kind} gene {gene}: {sum}");
                }
                let mut rng = stream(4, "test", 0, 0);
                for _ in 0..200 {
                    let genotype = fitted.sample(&space, &mut rng);
                    let arch = space.decode(&genotype).unwrap();
                    assert_eq!(space.encode(&arch).unwrap(), genotype);
                }
            }
        }
    }

    #[test]
    fn categorical_frequencies_are_those_of_the_archive_with_smoothing() {
        let space = Space::paper(Family::SE_B);
        let mut genotype: Genotype = vec![2, 0];
        genotype.extend([1, 9, 0, 0].repeat(5));
        let networks: Vec<Entry> = std::iter::repeat_n(entry(genotype), 9).collect();
        let exact = Distributions::fit(Categorical, 0.0, &space, &networks);
        assert_eq!(exact.probabilities(0), [0.0, 0.0, 1.0]);
        assert_eq!(exact.probabilities(3), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        // Nothing is known of what would follow a layer that all of them skip.
        assert_eq!(exact.probabilities(5), [0.1; 10]);
        let smooth = Distributions::fit(Categorical, 1.0, &space, &networks);
        let expected = [1.0 / 12.0, 1.0 / 12.0, 10.0 / 12.0];
        assert!(smooth.probabilities(0).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
        let mut rng = stream(5, "test", 0, 0);
        let drawn: Vec<Genotype> = (0..50).map(|_| exact.sample(&space, &mut rng)).collect();
        assert!(drawn.iter().all(|g| g[..4] == [2, 0, 1, 9] && g[4..6] == [0, 0]));
    }

    /// Depths, and with early exits the exit, come out as they went in.
    #[test]
    fn generations_of_sub_networks_do_not_become_shallower() {
        for family in [Family::SE_B, "EE_D".parse().unwrap()] {
            let space = Space::paper(family);
            let mut networks = random(&space, 4000);
            let depths = |networks: &[Entry]| {
                let archs = networks.iter().map(|entry| space.decode(&entry.genotype).unwrap());
                let (mut counts, mut stages) = ([0.0; 3], 0.0);
                for arch in archs {
                    for stage in 0..arch.stages() {
                        counts[usize::from(arch.d[stage]) - 2] += 1.0;
                        stages += 1.0;
                    }
                }
                (counts.map(|count| count / stages), stages / networks.len() as f64)
            };
            let before = depths(&networks);
            for generation in 0..3 {
                let fitted = Distributions::fit(Categorical, 0.0, &space, &networks);
                let mut rng = stream(6, "test", generation, 0);
                networks = (0..4000).map(|_| entry(fitted.sample(&space, &mut rng))).collect();
            }
            let after = depths(&networks);
            for (a, b) in before.0.iter().zip(after.0) {
                assert!((a - b).abs() < 0.03, "{family}: {before:?}, then {after:?}");
            }
            assert!((before.1 - after.1).abs() < 0.2, "{family}: {before:?}, then {after:?}");
        }
    }

    #[test]
    fn the_uniform_has_the_moments_and_is_rounded_and_clamped() {
        // Uniform on 0..=2: U[1 - sqrt 2, 1 + sqrt 2], whose ends are rounded to 0 and 2 or clamped.
        let fit = uniform(&[1.0 / 3.0; 3]);
        let end = (0.5 - (1.0 - 2f64.sqrt())) / (2.0 * 2f64.sqrt());
        assert!((fit[0] - end).abs() < 1e-3 && (fit[2] - end).abs() < 1e-3, "{fit:?}");
        assert!((fit[1] - 1.0 / (2.0 * 2f64.sqrt())).abs() < 1e-3, "{fit:?}");
        assert_eq!(uniform(&[0.0, 1.0, 0.0]), [0.0, 1.0, 0.0]);
    }

    fn closest(frequencies: &[f64]) -> f64 {
        let fit = best_fit(frequencies);
        fit.iter().zip(frequencies).map(|(a, b)| (a - b).powi(2)).sum()
    }

    #[test]
    fn best_fit_finds_the_family_that_frequencies_come_from() {
        let from = |density: &dyn Fn(f64) -> f64| rounded(10, (-0.5, 9.5), density).unwrap();
        for (name, frequencies) in [
            ("normal", from(&|x| (-(x - 4.5).powi(2) / 2.0).exp())),
            ("exponential", from(&|x| (-(x + 0.5) / 0.8).exp())),
            ("gamma", from(&|x| (x + 0.5).powi(3) * (-(x + 0.5) / 0.5).exp())),
            ("beta", from(&|x| (x + 0.5).powi(4) * (9.5 - x).powf(0.5))),
            ("triangular", from(&|x| x + 0.5)),
            ("uniform", vec![0.1; 10]),
        ] {
            // Not zero: rounding widens a distribution, and moments are taken after it.
            let error = closest(&frequencies);
            assert!(error < 5e-3, "{name}: {error}");
            let other = uniform(&frequencies);
            let worse: f64 = other.iter().zip(&frequencies).map(|(a, b)| (a - b).powi(2)).sum();
            assert!(name == "uniform" || 5.0 * error < worse, "{name}: {error}, uniform {worse}");
        }
        // Two peaks at the ends and a single value are no trouble.
        assert!(closest(&[0.5, 0.0, 0.0, 0.0, 0.5]) < 0.1);
        assert_eq!(best_fit(&[0.0, 0.0, 1.0]), [0.0, 0.0, 1.0]);
    }
}

//! Operators on integer genomes: latin-hypercube start, two-point crossover, polynomial mutation.
//!
//! As pymoo 0.5 has them, the integers of a gene stand for the real interval from half below its
//! lower bound to half above its upper one, in which the operators for real numbers work.

use crate::random::Stream;
use rand::RngExt;
use rand::seq::SliceRandom;

/// A latin hypercube: in each gene, the `count` genomes fall one into each of `count` equal strata.
/// Of `tries` hypercubes the one whose two closest genomes are farthest apart is taken (distances
/// in the unit cube, before rounding to integers).
///
/// # Panics
/// If the bounds differ in length or cross.
pub fn latin_hypercube(
    lower: &[u8],
    upper: &[u8],
    count: usize,
    tries: usize,
    rng: &mut Stream,
) -> Vec<Vec<u8>> {
    assert_eq!(lower.len(), upper.len(), "as many lower as upper bounds");
    let mut best: Option<(f32, Vec<f32>)> = None;
    for _ in 0..tries.max(1) {
        let cube = unit_hypercube(lower.len(), count, rng);
        // A single try needs no comparison.
        let apart = if tries > 1 { closest_pair(&cube, count) } else { 0.0 };
        if best.as_ref().is_none_or(|b| apart > b.0) {
            best = Some((apart, cube));
        }
    }
    let cube = best.map(|b| b.1).unwrap_or_default();
    (0..count)
        .map(|i| {
            lower
                .iter()
                .zip(upper)
                .enumerate()
                .map(|(gene, (&lo, &hi))| {
                    assert!(lo <= hi, "bounds of gene {gene} cross");
                    let step = (cube[gene * count + i] * (f32::from(hi - lo) + 1.0)) as u8;
                    lo + step.min(hi - lo)
                })
                .collect()
        })
        .collect()
}

/// Gene by gene, `count` numbers in 0..1, one in each stratum.
fn unit_hypercube(genes: usize, count: usize, rng: &mut Stream) -> Vec<f32> {
    let mut cube = Vec::with_capacity(genes * count);
    let mut strata: Vec<u32> = (0..count as u32).collect();
    for _ in 0..genes {
        strata.shuffle(rng);
        cube.extend(strata.iter().map(|&s| (s as f32 + rng.random::<f32>()) / count as f32));
    }
    cube
}

/// The least squared distance between two columns of the hypercube.
fn closest_pair(cube: &[f32], count: usize) -> f32 {
    let mut least = f32::INFINITY;
    let mut squared = vec![0.0f32; count];
    for i in 1..count {
        squared[..i].fill(0.0);
        for gene in cube.chunks_exact(count) {
            let at = gene[i];
            for (sum, &x) in squared[..i].iter_mut().zip(gene) {
                *sum += (at - x) * (at - x);
            }
        }
        least = squared[..i].iter().fold(least, |a, &b| a.min(b));
    }
    least
}

/// Swaps the genes between two cut points, both inside the genome; with two genes, the second one.
///
/// # Panics
/// If the genomes differ in length.
pub fn two_point_crossover(a: &mut [u8], b: &mut [u8], rng: &mut Stream) {
    assert_eq!(a.len(), b.len(), "genomes of the same length");
    match a.len() {
        0 | 1 => {}
        2 => a[1..].swap_with_slice(&mut b[1..]),
        n => {
            let first = rng.random_range(1..n);
            let mut second = rng.random_range(1..n - 1);
            if second >= first {
                second += 1;
            }
            let cut = first.min(second)..first.max(second);
            a[cut.clone()].swap_with_slice(&mut b[cut]);
        }
    }
}

/// Polynomial mutation (Deb and Goyal, 1996): each gene, with probability `rate`, moves by a
/// random step, the shorter the likelier the larger `eta` is, and stays within its bounds.
///
/// # Panics
/// If genome and bounds differ in length or the bounds cross.
pub fn polynomial_mutation(
    genome: &mut [u8],
    lower: &[u8],
    upper: &[u8],
    eta: f64,
    rate: f64,
    rng: &mut Stream,
) {
    assert!(genome.len() == lower.len() && genome.len() == upper.len(), "as many bounds as genes");
    for ((gene, &lo), &hi) in genome.iter_mut().zip(lower).zip(upper) {
        // Fixed genes draw as well: what the others get does not depend on which are fixed.
        if rng.random::<f64>() >= rate || lo == hi {
            continue;
        }
        let (floor, range) = (f64::from(lo) - 0.5, f64::from(hi) - f64::from(lo) + 1.0);
        let at = (f64::from(*gene) - floor) / range;
        let draw = rng.random::<f64>();
        let step = if draw <= 0.5 {
            (2.0 * draw + (1.0 - 2.0 * draw) * (1.0 - at).powf(eta + 1.0)).powf(1.0 / (eta + 1.0)) - 1.0
        } else {
            1.0 - (2.0 * (1.0 - draw) + 2.0 * (draw - 0.5) * at.powf(eta + 1.0)).powf(1.0 / (eta + 1.0))
        };
        let moved = floor + (at + step) * range;
        *gene = moved.round().clamp(f64::from(lo), f64::from(hi)) as u8;
    }
}

/// Deals the members of a population in random order, again and again, so that everyone takes part
/// in selection equally often.
pub struct Dealer {
    deck: Vec<usize>,
    dealt: usize,
}

impl Dealer {
    /// For a population of `count`.
    ///
    /// # Panics
    /// If it is empty.
    pub fn new(count: usize) -> Self {
        assert!(count > 0, "nobody to deal");
        Self { deck: (0..count).collect(), dealt: count }
    }

    /// The next one.
    pub fn deal(&mut self, rng: &mut Stream) -> usize {
        if self.dealt == self.deck.len() {
            self.deck.shuffle(rng);
            self.dealt = 0;
        }
        self.dealt += 1;
        self.deck[self.dealt - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use proptest::prelude::*;

    fn rng() -> Stream {
        stream(11, "moo/test", 0, 0)
    }

    #[test]
    fn a_latin_hypercube_uses_every_value_equally_often() {
        let (lower, upper) = ([0, 1, 5, 0], [4, 10, 5, 255]);
        let genomes = latin_hypercube(&lower, &upper, 100, 20, &mut rng());
        for (gene, values) in [(0, 0..=4u8), (1, 1..=10)] {
            let expected = 100 / values.clone().count();
            for v in values {
                assert_eq!(
                    genomes.iter().filter(|g| g[gene] == v).count(),
                    expected,
                    "gene {gene}, value {v}"
                );
            }
        }
        assert!(genomes.iter().all(|g| g[2] == 5));
        assert!(latin_hypercube(&lower, &upper, 0, 20, &mut rng()).is_empty());
    }

    #[test]
    fn more_tries_give_a_wider_hypercube() {
        let apart = |tries| {
            let genomes = latin_hypercube(&[0; 6], &[255; 6], 30, tries, &mut rng());
            let pair = |a: &Vec<u8>, b: &Vec<u8>| -> u32 {
                a.iter().zip(b).map(|(x, y)| u32::from(x.abs_diff(*y)).pow(2)).sum()
            };
            (0..30)
                .flat_map(|i| (0..i).map(move |j| (i, j)))
                .map(|(i, j)| pair(&genomes[i], &genomes[j]))
                .min()
        };
        assert!(apart(50) > apart(1));
    }

    #[test]
    fn crossover_swaps_one_inner_stretch_and_keeps_the_first_gene() {
        let mut rng = rng();
        let mut lengths = [0; 9];
        for _ in 0..500 {
            let (mut a, mut b) = ([0u8; 9], [1u8; 9]);
            two_point_crossover(&mut a, &mut b, &mut rng);
            assert!(a.iter().zip(&b).all(|(x, y)| x + y == 1));
            assert_eq!(a[0], 0);
            let changes = a.windows(2).filter(|w| w[0] != w[1]).count();
            let swapped = a.iter().filter(|&&x| x == 1).count();
            assert_eq!(changes, 2, "{a:?}");
            lengths[swapped] += 1;
        }
        assert!(lengths[1..8].iter().all(|&l| l > 0), "{lengths:?}");
        let (mut a, mut b) = ([0, 0], [1, 1]);
        two_point_crossover(&mut a, &mut b, &mut rng);
        assert_eq!((a, b), ([0, 1], [1, 0]));
        two_point_crossover(&mut [], &mut [], &mut rng);
    }

    #[test]
    fn mutation_reaches_every_value_and_prefers_near_ones() {
        let mut rng = rng();
        let mut counts = [0usize; 10];
        for _ in 0..4000 {
            let mut genome = [3u8, 7];
            polynomial_mutation(&mut genome, &[0, 7], &[9, 7], 1.0, 1.0, &mut rng);
            assert_eq!(genome[1], 7);
            counts[genome[0] as usize] += 1;
        }
        assert!(counts.iter().all(|&c| c > 0), "{counts:?}");
        assert!(counts[4] > counts[6] && counts[6] > counts[9] && counts[2] > counts[0], "{counts:?}");
        let mut untouched = [3u8; 50];
        polynomial_mutation(&mut untouched, &[0; 50], &[9; 50], 1.0, 0.0, &mut rng);
        assert_eq!(untouched, [3; 50]);
    }

    #[test]
    fn dealing_gives_everyone_the_same_number_of_turns() {
        let (mut dealer, mut rng) = (Dealer::new(7), rng());
        let mut turns = [0; 7];
        (0..70).for_each(|_| turns[dealer.deal(&mut rng)] += 1);
        assert_eq!(turns, [10; 7]);
    }

    proptest! {
        #[test]
        fn everything_stays_within_bounds(
            bounds in prop::collection::vec((any::<u8>(), any::<u8>()), 1..30),
            eta in 0.0..30.0f64, rate in 0.0..1.0f64, seed in any::<u64>(),
        ) {
            let lower: Vec<u8> = bounds.iter().map(|b| b.0.min(b.1)).collect();
            let upper: Vec<u8> = bounds.iter().map(|b| b.0.max(b.1)).collect();
            let mut rng = stream(seed, "moo/test", 0, 0);
            let mut genomes = latin_hypercube(&lower, &upper, 10, 3, &mut rng);
            let (a, b) = genomes.split_at_mut(5);
            two_point_crossover(&mut a[0], &mut b[0], &mut rng);
            for genome in &mut genomes {
                polynomial_mutation(genome, &lower, &upper, eta, rate, &mut rng);
                prop_assert!(genome.iter().zip(&lower).zip(&upper).all(|((g, lo), hi)| lo <= g && g <= hi));
            }
        }
    }
}

//! Which K candidates to evaluate: those that leave the smallest unevenness in the front.
//!
//! MSuNAS and NAT pick among the candidates of a search by a genetic algorithm over bit-strings of
//! K ones. A subset is as good as the gaps it leaves: for each cheap objective, the values of front
//! and subset together are sorted, and the largest standard deviation of their gaps counts.

use super::{Error, Points, variation::Dealer};
use crate::random::Stream;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::HashSet;

/// Settings of the subset search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Subsets in a generation.
    pub population: usize,
    /// Generations, the initial one included.
    pub generations: usize,
}

impl Default for Settings {
    /// NATv2's: 500 subsets, 200 generations.
    fn default() -> Self {
        Self { population: 500, generations: 200 }
    }
}

/// The unevenness that `selected` leaves in `front`: the largest, over the objectives, of the
/// (biased) standard deviations of the gaps in their sorted union. With fewer than two values there
/// is no gap, and 0; infinite values make it infinite.
///
/// # Panics
/// If the dimensions differ.
pub fn fitness(front: &Points, selected: &Points) -> f64 {
    assert_eq!(front.dimension(), selected.dimension(), "points of another dimension");
    let unevenness = |j: usize| {
        let mut values: Vec<f64> = front.rows().chain(selected.rows()).map(|row| row[j]).collect();
        values.sort_by(f64::total_cmp);
        let gaps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
        deviation(&gaps)
    };
    (0..front.dimension()).map(unevenness).fold(0.0, f64::max)
}

fn deviation(gaps: &[f64]) -> f64 {
    if gaps.is_empty() {
        return 0.0;
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let squares: f64 = gaps.iter().map(|g| (g - mean) * (g - mean)).sum();
    let deviation = (squares / gaps.len() as f64).sqrt();
    if deviation.is_nan() { f64::INFINITY } else { deviation }
}

/// The indices, ascending, of the `k` candidates that leave the front most even in its cheap
/// objectives; all candidates if there are no more than `k`.
///
/// Random subsets of size k; tournaments of two; crossover keeps what both parents have and fills
/// from what one has; mutation swaps one member for one outsider; the best of parents and offspring
/// survive, no subset twice.
///
/// # Errors
/// [`Error::Setting`] if population or generations are 0.
///
/// # Panics
/// If the dimensions differ.
pub fn select(
    front: &Points,
    candidates: &Points,
    k: usize,
    settings: &Settings,
    rng: &mut Stream,
) -> Result<Vec<usize>, Error> {
    for (name, value) in [("population", settings.population), ("generations", settings.generations)] {
        if value == 0 {
            return Err(Error::Setting { name, value: 0.0, expected: "at least 1" });
        }
    }
    let n = candidates.len();
    if n <= k {
        return Ok((0..n).collect());
    }
    if k == 0 {
        return Ok(Vec::new());
    }
    let spacing = Spacing::new(front, candidates, k);
    let mut words = Vec::new();
    let mut seen: HashSet<Subset> = HashSet::new();
    let mut population: Vec<(f64, Subset)> = Vec::with_capacity(2 * settings.population);
    let mut all: Vec<usize> = (0..n).collect();
    // There may be fewer subsets than places.
    for _ in 0..settings.population * 4 {
        if population.len() == settings.population {
            break;
        }
        let mut subset = Subset::empty(n);
        all.partial_shuffle(rng, k).0.iter().for_each(|&i| subset.insert(i));
        if seen.insert(subset.clone()) {
            population.push((spacing.fitness(&subset, &mut words), subset));
        }
    }
    let by_fitness = |a: &(f64, Subset), b: &(f64, Subset)| a.0.total_cmp(&b.0);
    population.sort_by(by_fitness);
    for _ in 1..settings.generations {
        let parents = population.len();
        let mut dealer = Dealer::new(parents);
        // The population is sorted, so the lower index is the better or an equal one.
        let mut winner = |rng: &mut Stream| dealer.deal(rng).min(dealer.deal(rng));
        for _ in 0..settings.population {
            let (a, b) = (winner(rng), winner(rng));
            let mut child = population[a].1.cross(&population[b].1, k, rng);
            child.swap_one(n, k, rng);
            if seen.insert(child.clone()) {
                population.push((spacing.fitness(&child, &mut words), child));
            }
        }
        population.sort_by(by_fitness);
        population.truncate(settings.population);
    }
    Ok(population.first().map(|best| best.1.members()).unwrap_or_default())
}

/// A set of candidates, a bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Subset(Vec<u64>);

impl Subset {
    fn empty(n: usize) -> Self {
        Self(vec![0; n.div_ceil(64)])
    }

    fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn remove(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    fn members(&self) -> Vec<usize> {
        let mut members = Vec::new();
        for (w, &word) in self.0.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                members.push(w * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        members
    }

    fn zip(&self, other: &Subset, op: impl Fn(u64, u64) -> u64) -> Subset {
        Self(self.0.iter().zip(&other.0).map(|(&a, &b)| op(a, b)).collect())
    }

    fn cross(&self, other: &Subset, k: usize, rng: &mut Stream) -> Subset {
        let mut child = self.zip(other, |a, b| a & b);
        let common: usize = child.0.iter().map(|w| w.count_ones() as usize).sum();
        let mut differing = self.zip(other, |a, b| a ^ b).members();
        let (fill, _) = differing.partial_shuffle(rng, k - common);
        fill.iter().for_each(|&i| child.insert(i));
        child
    }

    /// The `nth` member, counted from 0, of those that have `bit`.
    fn nth(&self, mut nth: usize, bit: bool) -> usize {
        for (w, &word) in self.0.iter().enumerate() {
            let mut word = if bit { word } else { !word };
            let ones = word.count_ones() as usize;
            if nth < ones {
                (0..nth).for_each(|_| word &= word - 1);
                return w * 64 + word.trailing_zeros() as usize;
            }
            nth -= ones;
        }
        unreachable!("fewer members than were counted")
    }

    /// Swaps one of the k members for one of the n - k others.
    fn swap_one(&mut self, n: usize, k: usize, rng: &mut Stream) {
        let out = self.nth(rng.random_range(0..k), true);
        let into = self.nth(rng.random_range(0..n - k), false);
        self.remove(out);
        self.insert(into);
    }
}

/// Front and candidates sorted once per objective, so that a subset is measured in one pass.
struct Spacing {
    objectives: Vec<Sorted>,
    /// Gaps that a subset leaves.
    gaps: f64,
}

struct Sorted {
    /// All values in ascending order, with the word and bit of the candidate each belongs to.
    values: Vec<(f64, u32, u32)>,
    /// The mean gap if the ends of the range were taken.
    mean: f64,
}

impl Spacing {
    /// For subsets of `k`.
    fn new(front: &Points, candidates: &Points, k: usize) -> Self {
        assert_eq!(front.dimension(), candidates.dimension(), "points of another dimension");
        let gaps = (front.len() + k).saturating_sub(1) as f64;
        // The front is always there: it has a word of its own, behind those of the candidates.
        let always = (candidates.len().div_ceil(64) as u32, 0);
        let place = |i: usize| ((i / 64) as u32, (i % 64) as u32);
        let objectives = (0..front.dimension())
            .map(|j| {
                let mut values: Vec<(f64, u32, u32)> =
                    front.rows().map(|row| (row[j], always.0, always.1)).collect();
                values.extend(candidates.rows().enumerate().map(|(i, row)| (row[j], place(i).0, place(i).1)));
                values.sort_by(|a, b| a.0.total_cmp(&b.0));
                let finite = || values.iter().map(|v| v.0).filter(|x| x.is_finite());
                let range = finite().next_back().unwrap_or(0.0) - finite().next().unwrap_or(0.0);
                let mean = if gaps > 0.0 { range / gaps } else { 0.0 };
                Sorted { values, mean }
            })
            .collect();
        Self { objectives, gaps }
    }

    /// [`fitness`] of a subset, but for rounding. Gaps are taken from a mean that is nearly theirs,
    /// so that a sum of squares in one pass loses few digits. `words` is room to work in.
    fn fitness(&self, subset: &Subset, words: &mut Vec<u64>) -> f64 {
        if self.gaps == 0.0 {
            return 0.0;
        }
        words.clear();
        words.extend(&subset.0);
        words.push(1);
        let mut worst = 0.0f64;
        for Sorted { values, mean } in &self.objectives {
            let taken = |&&(_, word, bit): &&(f64, u32, u32)| words[word as usize] >> bit & 1 == 1;
            let Some(&(first, ..)) = values.iter().find(taken) else { continue };
            let (mut last, mut squares) = (first, 0.0);
            for value in values {
                // Without branches: what is not taken leaves no gap and moves nothing.
                let taken = taken(&value);
                let off = value.0 - last - mean;
                squares += if taken { off * off } else { 0.0 };
                last = if taken { value.0 } else { last };
            }
            // The first value has no gap before it, and was counted as one of 0.
            squares -= mean * mean;
            let shift = (last - first) / self.gaps - mean;
            let deviation = (squares / self.gaps - shift * shift).max(0.0).sqrt();
            let finite = first.is_finite() && last.is_finite() && deviation.is_finite();
            worst = worst.max(if finite { deviation } else { f64::INFINITY });
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use proptest::prelude::*;

    fn rng(seed: u64) -> Stream {
        stream(seed, "moo/test", 0, 0)
    }

    #[test]
    fn the_gaps_of_a_line_are_filled() {
        let front = Points::from_rows(1, [[0.0], [1.0], [4.0], [8.0]]);
        let candidates = Points::from_rows(1, [[0.1], [2.0], [0.2], [3.0], [5.0], [6.0], [7.0], [7.9]]);
        let chosen =
            select(&front, &candidates, 5, &Settings { population: 30, generations: 20 }, &mut rng(1))
                .unwrap();
        assert_eq!(chosen, [1, 3, 4, 5, 6]);
        assert_eq!(fitness(&front, &candidates.select(&chosen)), 0.0);
    }

    #[test]
    fn the_best_subset_of_a_small_problem_is_found() {
        let mut draws = rng(9);
        let mut scatter =
            |n: usize| Points::from_rows(2, (0..n).map(|_| [draws.random::<f64>(), draws.random()]));
        let (front, candidates) = (scatter(8), scatter(12));
        let mut best = f64::INFINITY;
        for bits in 0u32..1 << 12 {
            if bits.count_ones() == 4 {
                let members: Vec<usize> = (0..12).filter(|i| bits >> i & 1 == 1).collect();
                best = best.min(fitness(&front, &candidates.select(&members)));
            }
        }
        let chosen =
            select(&front, &candidates, 4, &Settings { population: 100, generations: 30 }, &mut rng(1))
                .unwrap();
        assert_eq!(fitness(&front, &candidates.select(&chosen)), best);
    }

    #[test]
    fn few_candidates_are_all_taken_and_settings_checked() {
        let front = Points::from_rows(2, [[0.0, 1.0]]);
        let candidates = Points::from_rows(2, [[1.0, 0.0], [0.5, f64::NAN]]);
        let settings = Settings { population: 5, generations: 3 };
        assert_eq!(select(&front, &candidates, 2, &settings, &mut rng(1)), Ok(vec![0, 1]));
        assert_eq!(select(&front, &candidates, 0, &settings, &mut rng(1)), Ok(vec![]));
        assert_eq!(select(&front, &Points::new(2), 3, &settings, &mut rng(1)), Ok(vec![]));
        assert_eq!(select(&Points::new(2), &candidates, 1, &settings, &mut rng(1)).map(|s| s.len()), Ok(1));
        assert_eq!(fitness(&front, &candidates), f64::INFINITY);
        let wrong = select(&front, &candidates, 1, &Settings { population: 0, generations: 1 }, &mut rng(1));
        assert!(matches!(wrong, Err(Error::Setting { name: "population", .. })));
    }

    proptest! {
        #[test]
        fn presorted_spacing_is_the_definition(
            rows in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![30 => 0.0..1.0f64, 30 => (0u8..3).prop_map(f64::from), 1 => Just(f64::INFINITY)],
                    2,
                ),
                1..40,
            ),
            bits in any::<u64>(), at in any::<prop::sample::Index>(),
        ) {
            let cut = at.index(rows.len());
            let (front, candidates) = (Points::from_rows(2, &rows[..cut]), Points::from_rows(2, &rows[cut..]));
            let members: Vec<usize> = (0..candidates.len()).filter(|i| bits >> i & 1 == 1).collect();
            let mut subset = Subset::empty(candidates.len());
            members.iter().for_each(|&i| subset.insert(i));
            let fast = Spacing::new(&front, &candidates, members.len()).fitness(&subset, &mut Vec::new());
            let plain = fitness(&front, &candidates.select(&members));
            prop_assert!(fast == plain || (fast - plain).abs() <= 1e-7, "{} and {}", fast, plain);
        }

        #[test]
        fn chosen_subsets_have_their_size(n in 1usize..90, k in 0usize..90, seed in any::<u64>()) {
            let mut draws = rng(seed);
            let candidates = Points::from_rows(1, (0..n).map(|_| [draws.random::<f64>()]));
            let front = Points::from_rows(1, [[0.0], [1.0]]);
            let chosen = select(&front, &candidates, k, &Settings { population: 12, generations: 3 }, &mut draws).unwrap();
            prop_assert_eq!(chosen.len(), k.min(n));
            prop_assert!(chosen.windows(2).all(|w| w[0] < w[1]) && chosen.iter().all(|&i| i < n));
        }
    }
}

//! Non-dominated sorting: ranks points by how many layers of better points lie before them.
//!
//! A point dominates another if it is nowhere worse and somewhere better (everything is minimised).
//! The first front holds the points that nothing dominates, the second those that only the first
//! dominates, and so on. Equal points share a front.
//!
//! [`fronts`] takes O(n log n) for one and two objectives and O(n log^(m-1) n) for m objectives:
//! the divide and conquer of Jensen (2003), in the form that Fortin, Grenier and Parizeau (2013)
//! and Buzdalov and Shalyto (2014) made right for equal coordinates. Three objectives are first
//! tried in one pass over the points in lexicographic order, with a binary search over the fronts
//! so far (as Zhang et al., 2015), each of which keeps its staircase in the other two objectives;
//! that is faster still unless the staircases get long, and then it gives up. [`fronts_plain`] is
//! the definition, quadratic, that all of it is checked against.

use super::Points;

/// Below this many points (or pairs) a plain double loop is quicker than dividing further.
const SMALL_SET: usize = 24;
const FEW_PAIRS: usize = 256;
/// Steps of staircases that may be moved per point, and per binary digit of the number of points,
/// before one pass would cost more than dividing.
const STEPS_MOVED: usize = 32;

/// Whether `a` dominates `b`: nowhere larger and somewhere smaller. NaN is not expected here
/// ([`Points`] holds none).
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// The fronts, first front first; indices ascend within a front. No points, no fronts.
pub fn fronts(points: &Points) -> Vec<Vec<usize>> {
    from_ranks(&ranks(points))
}

fn from_ranks(ranks: &[u32]) -> Vec<Vec<usize>> {
    let count = ranks.iter().max().map_or(0, |&r| r as usize + 1);
    let mut sizes = vec![0usize; count];
    for &r in ranks {
        sizes[r as usize] += 1;
    }
    let mut fronts: Vec<Vec<usize>> = sizes.into_iter().map(Vec::with_capacity).collect();
    for (i, &r) in ranks.iter().enumerate() {
        fronts[r as usize].push(i);
    }
    fronts
}

/// The first front: indices, ascending, of the points that no other dominates.
pub fn non_dominated(points: &Points) -> Vec<usize> {
    ranks(points).iter().enumerate().filter(|&(_, &r)| r == 0).map(|(i, _)| i).collect()
}

/// The fronts by the definition: O(n^2 m).
pub fn fronts_plain(points: &Points) -> Vec<Vec<usize>> {
    let n = points.len();
    let mut left: Vec<usize> = (0..n).collect();
    let mut dominators = vec![0usize; n];
    for a in 0..n {
        for (count, b) in dominators.iter_mut().zip(points.rows()) {
            *count += usize::from(dominates(points.row(a), b));
        }
    }
    let mut fronts = Vec::new();
    while !left.is_empty() {
        let (front, rest): (Vec<usize>, Vec<usize>) = left.iter().partition(|&&i| dominators[i] == 0);
        for &a in &front {
            for &b in &rest {
                dominators[b] -= usize::from(dominates(points.row(a), points.row(b)));
            }
        }
        fronts.push(front);
        left = rest;
    }
    fronts
}

/// The front of every point, counted from 0.
pub fn ranks(points: &Points) -> Vec<u32> {
    ranks_with(points, STEPS_MOVED)
}

fn ranks_with(points: &Points, patience: usize) -> Vec<u32> {
    let (n, m) = (points.len(), points.dimension());
    // In lexicographic order a point can only be dominated by one before it.
    let mut order: Vec<(u64, u32)> =
        points.rows().enumerate().map(|(i, row)| (ascending_bits(row[0]), i as u32)).collect();
    order.sort_unstable();
    if m > 1 {
        for run in order.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
            run.sort_unstable_by(|a, b| {
                super::points::compare(&points.row(a.1 as usize)[1..], &points.row(b.1 as usize)[1..])
            });
        }
    }
    // Equal points, now side by side, are ranked as one.
    let mut rows: Vec<f64> = Vec::with_capacity(n * m);
    let mut distinct_of = vec![0u32; n];
    for &(_, i) in &order {
        let row = points.row(i as usize);
        if rows.is_empty() || rows[rows.len() - m..] != *row {
            rows.extend_from_slice(row);
        }
        distinct_of[i as usize] = (rows.len() / m - 1) as u32;
    }
    let count = rows.len() / m;
    let mut sorter =
        Sorter { m, rows, ranks: vec![0; count], staircase: Staircase::default(), medians: Vec::new() };
    if m == 1 {
        for (i, rank) in sorter.ranks.iter_mut().enumerate() {
            *rank = i as u32;
        }
    } else if let Some(ranks) = (m == 3).then(|| by_staircases(&sorter.rows, patience)).flatten() {
        sorter.ranks = ranks;
    } else {
        let all: Vec<u32> = (0..count as u32).collect();
        sorter.within(&all, m);
    }
    distinct_of.into_iter().map(|d| sorter.ranks[d as usize]).collect()
}

/// Maps finite and infinite numbers to integers in the same order.
fn ascending_bits(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The front of each of a number of distinct points with three objectives, in lexicographic order;
/// `None` if more than `patience` steps per point and binary digit had to be moved.
fn by_staircases(rows: &[f64], patience: usize) -> Option<Vec<u32>> {
    /// Objective 1 rises and objective 2 falls.
    #[derive(Default)]
    struct Front {
        ys: Vec<f64>,
        zs: Vec<f64>,
    }
    let count = rows.len() / 3;
    let mut patience = patience * count * (count.max(2).ilog2() as usize);
    let mut fronts: Vec<Front> = Vec::new();
    let mut ranks = Vec::with_capacity(count);
    for row in rows.chunks_exact(3) {
        let (y, z) = (row[1], row[2]);
        // A front that dominates the point comes after fronts that do.
        let rank = fronts.partition_point(|front| {
            let end = front.ys.partition_point(|&step| step <= y);
            end > 0 && front.zs[end - 1] <= z
        });
        if rank == fronts.len() {
            fronts.push(Front::default());
        }
        let Front { ys, zs } = &mut fronts[rank];
        let end = ys.partition_point(|&step| step <= y);
        // Steps that the new one hides: one before it with the same y, those after it up to its z.
        let start = if end > 0 && ys[end - 1] == y { end - 1 } else { end };
        let end = end + zs[end..].partition_point(|&step| step >= z);
        if start == end {
            patience = patience.checked_sub(ys.len() - start)?;
            ys.insert(start, y);
            zs.insert(start, z);
        } else {
            (ys[start], zs[start]) = (y, z);
            if end - start > 1 {
                patience = patience.checked_sub(ys.len() - end)?;
                ys.drain(start + 1..end);
                zs.drain(start + 1..end);
            }
        }
        ranks.push(rank as u32);
    }
    Some(ranks)
}

/// Ranks of distinct points in lexicographic order. Sets of points are ascending lists of their
/// positions, so they stay in lexicographic order when they are split.
struct Sorter {
    m: usize,
    rows: Vec<f64>,
    /// Lower bounds that only rise; final once everything before has been taken into account.
    ranks: Vec<u32>,
    staircase: Staircase,
    medians: Vec<f64>,
}

impl Sorter {
    fn value(&self, i: u32, objective: usize) -> f64 {
        self.rows[i as usize * self.m + objective]
    }

    /// Whether `a`, which comes before `b`, is nowhere larger in objectives 1 to k - 1. Objective 0
    /// needs no look: that is the lexicographic order.
    fn covers(&self, a: u32, b: u32, k: usize) -> bool {
        let row = |i: u32| &self.rows[i as usize * self.m + 1..i as usize * self.m + k];
        row(a).iter().zip(row(b)).all(|(x, y)| x <= y)
    }

    fn raise(&mut self, a: u32, b: u32, k: usize) {
        let above = self.ranks[a as usize] + 1;
        if above > self.ranks[b as usize] && a < b && self.covers(a, b, k) {
            self.ranks[b as usize] = above;
        }
    }

    /// Finishes the ranks of a set, whose members agree in all objectives from k on.
    fn within(&mut self, set: &[u32], k: usize) {
        if set.len() <= SMALL_SET {
            for (j, &b) in set.iter().enumerate() {
                for &a in &set[..j] {
                    self.raise(a, b, k);
                }
            }
        } else if k == 2 {
            self.sweep(&[], set, true);
        } else {
            let split = self.median(set, &[], k - 1);
            let [less, same, more] = self.split(set, k - 1, split);
            self.within(&less, k);
            self.across(&less, &same, k - 1);
            self.within(&same, k - 1);
            self.across(&merge(&less, &same), &more, k - 1);
            self.within(&more, k);
        }
    }

    /// Raises the ranks of `high` by those of `low`, which are final. No member of `low` is larger
    /// than one of `high` in any objective from k on.
    fn across(&mut self, low: &[u32], high: &[u32], k: usize) {
        if low.len() * high.len() <= FEW_PAIRS {
            for &b in high {
                for &a in low {
                    self.raise(a, b, k);
                }
            }
        } else if k == 2 {
            self.sweep(low, high, false);
        } else {
            let range = |set: &[u32]| {
                set.iter()
                    .map(|&i| self.value(i, k - 1))
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)))
            };
            let ((low_least, low_most), (high_least, high_most)) = (range(low), range(high));
            if low_most <= high_least {
                return self.across(low, high, k - 1);
            }
            if low_least > high_most {
                return;
            }
            let split = self.median(low, high, k - 1);
            let [low_less, low_same, low_more] = self.split(low, k - 1, split);
            let [high_less, high_same, high_more] = self.split(high, k - 1, split);
            self.across(&low_less, &high_less, k);
            let low_upto = merge(&low_less, &low_same);
            self.across(&low_upto, &high_same, k - 1);
            self.across(&low_upto, &high_more, k - 1);
            self.across(&low_more, &high_more, k);
        }
    }

    /// Two objectives left: passes through both sets in lexicographic order, and raises each member
    /// of `high` above the highest rank among those before it whose objective 1 is no larger.
    /// `low` takes part with its ranks as they are; with `grow` the members of `high` count too.
    fn sweep(&mut self, low: &[u32], high: &[u32], grow: bool) {
        let mut staircase = std::mem::take(&mut self.staircase);
        staircase.steps.clear();
        let mut low = low.iter().copied().peekable();
        for &b in high {
            while let Some(a) = low.next_if(|&a| a < b) {
                staircase.insert(self.value(a, 1), self.ranks[a as usize]);
            }
            let y = self.value(b, 1);
            if let Some(rank) = staircase.highest(y) {
                self.ranks[b as usize] = self.ranks[b as usize].max(rank + 1);
            }
            if grow {
                staircase.insert(y, self.ranks[b as usize]);
            }
        }
        self.staircase = staircase;
    }

    fn median(&mut self, a: &[u32], b: &[u32], objective: usize) -> f64 {
        let mut values = std::mem::take(&mut self.medians);
        values.clear();
        values.extend(a.iter().chain(b).map(|&i| self.value(i, objective)));
        let middle = values.len() / 2;
        let median = *values.select_nth_unstable_by(middle, f64::total_cmp).1;
        self.medians = values;
        median
    }

    /// The members below, at and above a value.
    fn split(&self, set: &[u32], objective: usize, at: f64) -> [Vec<u32>; 3] {
        let mut parts =
            [Vec::with_capacity(set.len() / 2 + 1), Vec::new(), Vec::with_capacity(set.len() / 2 + 1)];
        for &i in set {
            let x = self.value(i, objective);
            parts[usize::from(x >= at) + usize::from(x > at)].push(i);
        }
        parts
    }
}

fn merge(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let mut b = b.iter().copied().peekable();
    for &x in a {
        while let Some(y) = b.next_if(|&y| y < x) {
            merged.push(y);
        }
        merged.push(x);
    }
    merged.extend(b);
    merged
}

/// The highest rank seen at or below a value: steps that rise in both.
#[derive(Default)]
struct Staircase {
    steps: Vec<(f64, u32)>,
}

impl Staircase {
    fn highest(&self, y: f64) -> Option<u32> {
        let end = self.steps.partition_point(|step| step.0 <= y);
        end.checked_sub(1).map(|i| self.steps[i].1)
    }

    fn insert(&mut self, y: f64, rank: u32) {
        let end = self.steps.partition_point(|step| step.0 <= y);
        if end > 0 && self.steps[end - 1].1 >= rank {
            return;
        }
        // The new step replaces an equal one before it and all that it now hides.
        let start = if end > 0 && self.steps[end - 1].0 == y { end - 1 } else { end };
        let hidden = self.steps[end..].iter().take_while(|step| step.1 <= rank).count();
        match end + hidden - start {
            0 => self.steps.insert(start, (y, rank)),
            covered => {
                self.steps[start] = (y, rank);
                if covered > 1 {
                    self.steps.drain(start + 1..start + covered);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(points: &Points) {
        let plain = fronts_plain(points);
        if points.dimension() == 3 {
            // The other way to sort three objectives: no patience at all with staircases.
            assert_eq!(from_ranks(&ranks_with(points, 0)), plain);
        }
        assert_eq!(fronts(points), plain);
        assert_eq!(non_dominated(points), plain.into_iter().next().unwrap_or_default());
    }

    #[test]
    fn empty_single_and_equal_points() {
        assert!(fronts(&Points::new(3)).is_empty());
        assert!(non_dominated(&Points::new(2)).is_empty());
        for m in 1..5 {
            let points = Points::from_rows(m, vec![vec![0.5; m]; 70]);
            assert_eq!(fronts(&points), [(0..70).collect::<Vec<_>>()]);
        }
    }

    #[test]
    fn one_objective_is_a_dense_ranking() {
        let points = Points::from_rows(1, [[3.0], [1.0], [2.0], [1.0], [f64::NAN], [f64::INFINITY]]);
        assert_eq!(fronts(&points), [vec![1, 3], vec![2], vec![0], vec![4, 5]]);
    }

    #[test]
    fn not_a_number_ranks_as_the_worst_value_and_infinities_in_order() {
        let points =
            Points::from_rows(2, [[f64::NAN, 1.0], [0.0, 1.0], [f64::NEG_INFINITY, f64::NAN], [0.0, -0.0]]);
        assert_eq!(fronts(&points), [vec![2, 3], vec![1], vec![0]]);
        check(&points);
    }

    #[test]
    fn chains_and_large_sets_agree_with_the_definition() {
        for m in 2..6 {
            let chain = Points::from_rows(m, (0..300).rev().map(|i| vec![f64::from(i); m]));
            let sorted = fronts(&chain);
            assert_eq!(sorted.len(), 300);
            assert_eq!(sorted[0], [299]);
            // A deterministic scatter, with and without many equal coordinates.
            for modulus in [7u64, 1_000_003] {
                let mut state = 1u64;
                let scatter = Points::from_rows(
                    m,
                    (0..1200).map(|_| {
                        (0..m)
                            .map(|_| {
                                state =
                                    state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                                ((state >> 33) % modulus) as f64
                            })
                            .collect::<Vec<_>>()
                    }),
                );
                check(&scatter);
            }
        }
    }

    fn coordinate() -> impl Strategy<Value = f64> {
        prop_oneof![
            6 => (0u8..6).prop_map(f64::from),
            3 => -1.0..1.0f64,
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE]),
        ]
    }

    proptest! {
        #[test]
        fn fast_sorting_is_the_definition(
            rows in (1usize..6).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(coordinate(), m), 1..150))
        ) {
            check(&Points::from_rows(rows[0].len(), &rows));
        }
    }
}

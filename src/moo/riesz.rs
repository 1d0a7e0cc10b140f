//! Riesz-energy points (Blank and Deb, 2021): any number of directions, spread by repulsion.
//!
//! The points minimise, locally, the sum over pairs of 1 / distance^s with s = m^2. Written as
//! x_i = y_i^2 / sum(y^2) a point stays on the simplex whatever y is, so the logarithm of the
//! energy is minimised without constraints, by L-BFGS (Liu and Nocedal, 1989). The m corners are
//! fixed. Up to four starts are tried, from a thinned Das-Dennis lattice and from random points in
//! turn, and the one of least energy is kept. Results are kept for the life of the
//! process, since a search asks for the same directions again and again.

use super::Points;
use super::directions::{das_dennis, das_dennis_count};
use crate::random::{Stream, stream};
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Pairs that all starts together may look at; bounds the time to some tens of milliseconds for up
/// to a few hundred points.
const PAIR_BUDGET: usize = 10_000_000;
const MAX_STARTS: usize = 4;
const MAX_STEPS: usize = 250;
/// Steps that an L-BFGS model remembers.
const MEMORY: usize = 8;
/// The largest exponent, so that powers stay finite in any dimension.
const MAX_EXPONENT: usize = 144;

/// `n` points on the unit simplex in `m` dimensions that repel each other, in lexicographic order.
/// The corners are among them if n >= m; fewer points than corners are the first n corners, in
/// reverse, and a single one is the centre.
///
/// # Panics
/// If `m` is 0.
pub fn riesz(m: usize, n: usize, seed: u64) -> Points {
    static KNOWN: Mutex<BTreeMap<(usize, usize, u64), Points>> = Mutex::new(BTreeMap::new());
    let key = (m, n, seed);
    if let Some(points) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return points.clone();
    }
    let points = riesz_uncached(m, n, seed);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, points.clone());
    points
}

/// The natural logarithm of the sum over pairs of 1 / distance^s with s = m^2; negative infinity
/// for fewer than two points, infinity if two coincide.
pub fn log_energy(points: &Points) -> f64 {
    let s = (points.dimension() * points.dimension()) as f64;
    let mut logs = Vec::new();
    for i in 0..points.len() {
        for j in 0..i {
            let squared: f64 = points.row(i).iter().zip(points.row(j)).map(|(a, b)| (a - b) * (a - b)).sum();
            logs.push(-0.5 * s * squared.ln());
        }
    }
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    largest + logs.iter().map(|l| (l - largest).exp()).sum::<f64>().ln()
}

/// What [`riesz`] returns, without the cache.
pub fn riesz_uncached(m: usize, n: usize, seed: u64) -> Points {
    let mut corners = Points::new(m);
    for i in 0..m {
        let mut corner = vec![0.0; m];
        corner[i] = 1.0;
        corners.push(&corner);
    }
    if n == 1 || m == 1 {
        return Points::from_rows(m, vec![vec![1.0 / m as f64; m]; n]);
    }
    if n <= m {
        return corners.select(&(0..n).collect::<Vec<_>>()).sorted();
    }
    let energy = Energy::new(m, n);
    let starts = (PAIR_BUDGET / (n * n * MAX_STEPS)).clamp(1, MAX_STARTS);
    let steps = (PAIR_BUDGET / (n * n * starts)).clamp(40, MAX_STEPS);
    let mut best: Option<(f64, Vec<f64>)> = None;
    for start in 0..starts {
        let mut rng = stream(seed, "moo/riesz", (m * 1_000_003 + n) as u64, start as u64);
        let y = if start % 2 == 0 { thinned_lattice(m, n, &mut rng) } else { random_points(m, n, &mut rng) };
        let (value, y) = minimise(&energy, y, steps);
        if best.as_ref().is_none_or(|b| value < b.0) {
            best = Some((value, y));
        }
    }
    let y = best.map(|b| b.1).unwrap_or_default();
    let mut points = corners;
    let mut row = vec![0.0; m];
    for i in m..n {
        energy.point(&y, i, &mut row);
        // What is this close to an edge is on it.
        row.iter_mut().filter(|x| **x < 1e-9).for_each(|x| *x = 0.0);
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
        points.push(&row);
    }
    points.sorted()
}

/// Roots of the coordinates, one coordinate after the other (`y[j * n + i]`); the corners first.
fn roots(m: usize, n: usize, rows: &[Vec<f64>]) -> Vec<f64> {
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        y[i * n + i] = 1.0;
    }
    for (i, row) in rows.iter().enumerate() {
        for (j, x) in row.iter().enumerate() {
            y[j * n + m + i] = x.sqrt();
        }
    }
    y
}

/// Uniform on the simplex.
fn random_points(m: usize, n: usize, rng: &mut Stream) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = (m..n)
        .map(|_| {
            let row: Vec<f64> = (0..m).map(|_| -(1.0 - rng.random::<f64>()).ln() + 1e-12).collect();
            let sum: f64 = row.iter().sum();
            row.into_iter().map(|x| x / sum).collect()
        })
        .collect();
    roots(m, n, &rows)
}

/// The smallest lattice that has enough points, without random ones of them, shaken.
fn thinned_lattice(m: usize, n: usize, rng: &mut Stream) -> Vec<f64> {
    let partitions = (1..).find(|&p| das_dennis_count(m, p).is_none_or(|count| count >= n)).unwrap_or(1);
    if das_dennis_count(m, partitions).is_none_or(|count| count > 4 * n + 1000) {
        return random_points(m, n, rng);
    }
    let lattice = das_dennis(m, partitions);
    let mut rows: Vec<Vec<f64>> =
        lattice.rows().filter(|row| row.iter().all(|&x| x < 1.0)).map(<[f64]>::to_vec).collect();
    while rows.len() > n - m {
        let out = rng.random_range(0..rows.len());
        rows.swap_remove(out);
    }
    // The shake frees points from the edges: there the gradient along the edge is all there is.
    let shake = 0.2 / partitions as f64;
    for row in &mut rows {
        row.iter_mut().for_each(|x| *x += shake * rng.random::<f64>());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    roots(m, n, &rows)
}

/// The logarithm of the energy, and its gradient, as functions of the roots.
struct Energy {
    m: usize,
    n: usize,
    /// The exponent s.
    exponent: usize,
    /// Square of a typical distance: powers are taken of ratios to it, so that none overflows.
    unit: f64,
}

impl Energy {
    fn new(m: usize, n: usize) -> Self {
        let spacing = (n as f64).powf(-1.0 / (m - 1) as f64);
        Self { m, n, exponent: (m * m).min(MAX_EXPONENT), unit: spacing * spacing }
    }

    fn point(&self, y: &[f64], i: usize, row: &mut [f64]) {
        for (j, x) in row.iter_mut().enumerate() {
            *x = y[j * self.n + i] * y[j * self.n + i];
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }

    /// Writes the gradient and returns the value (up to a constant).
    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        let (m, n) = (self.m, self.n);
        let mut x = vec![0.0; m * n];
        let mut row = vec![0.0; m];
        let mut sums = vec![0.0; n];
        for i in 0..n {
            sums[i] = (0..m).map(|j| y[j * n + i] * y[j * n + i]).sum();
            self.point(y, i, &mut row);
            for j in 0..m {
                x[j * n + i] = row[j];
            }
        }
        // Gradient with respect to x first: pair by pair, -s (x_i - x_k) / distance^(s + 2).
        let mut total = 0.0;
        let mut inverse = vec![0.0; n];
        let mut power = vec![0.0; n];
        gradient.fill(0.0);
        for i in 0..n {
            inverse.fill(0.0);
            for j in 0..m {
                let (xi, others) = (x[j * n + i], &x[j * n..(j + 1) * n]);
                for (square, &other) in inverse.iter_mut().zip(others) {
                    *square += (xi - other) * (xi - other);
                }
            }
            for value in &mut inverse {
                *value = self.unit / value.max(1e-2 * self.unit);
            }
            inverse[i] = 0.0;
            let half = self.exponent / 2;
            for (p, &v) in power.iter_mut().zip(&inverse) {
                *p = powers(v, half);
            }
            if self.exponent % 2 == 1 {
                for (p, &v) in power.iter_mut().zip(&inverse) {
                    *p *= v.sqrt();
                }
            }
            total += sum(&power);
            for (p, &v) in power.iter_mut().zip(&inverse) {
                *p *= v;
            }
            for j in 0..m {
                let (xi, others) = (x[j * n + i], &x[j * n..(j + 1) * n]);
                gradient[j * n + i] = pull(&power, others, xi);
            }
        }
        let factor = -(self.exponent as f64) / (0.5 * total * self.unit);
        for i in 0..n {
            let mean: f64 = (0..m).map(|j| gradient[j * n + i] * x[j * n + i]).sum();
            for j in 0..m {
                let g = &mut gradient[j * n + i];
                // Corners stay where they are.
                *g = if i < m { 0.0 } else { factor * 2.0 * y[j * n + i] / sums[i] * (*g - mean) };
            }
        }
        (0.5 * total).ln()
    }
}

fn powers(base: f64, mut exponent: usize) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= square;
        }
        square *= square;
        exponent /= 2;
    }
    result
}

/// A sum in a fixed order that the compiler can spread over vector lanes.
fn sum(values: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let chunks = values.chunks_exact(4);
    let rest: f64 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    lanes[0] + lanes[1] + (lanes[2] + lanes[3]) + rest
}

/// The sum of power * (at - other), likewise.
fn pull(power: &[f64], others: &[f64], at: f64) -> f64 {
    let mut lanes = [0.0; 4];
    let whole = power.len() / 4 * 4;
    for (p, o) in power.chunks_exact(4).zip(others.chunks_exact(4)) {
        for l in 0..4 {
            lanes[l] += p[l] * (at - o[l]);
        }
    }
    let rest: f64 = power[whole..].iter().zip(&others[whole..]).map(|(p, o)| p * (at - o)).sum();
    lanes[0] + lanes[1] + (lanes[2] + lanes[3]) + rest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    -pull(a, b, 0.0)
}

/// L-BFGS with a backtracking line search; returns the least value and where it is.
fn minimise(energy: &Energy, mut y: Vec<f64>, steps: usize) -> (f64, Vec<f64>) {
    let size = y.len();
    let mut gradient = vec![0.0; size];
    let mut value = energy.evaluate(&y, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    let (mut next, mut next_gradient) = (y.clone(), gradient.clone());
    let mut idle = 0;
    for _ in 0..steps {
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut weights = Vec::with_capacity(memory.len());
        for (s, d, rho) in memory.iter().rev() {
            let weight = rho * dot(s, &direction);
            direction.iter_mut().zip(d).for_each(|(x, d)| *x -= weight * d);
            weights.push(weight);
        }
        if let Some((_, d, rho)) = memory.back() {
            let scale = 1.0 / (rho * dot(d, d));
            direction.iter_mut().for_each(|x| *x *= scale);
        }
        for ((s, d, rho), weight) in memory.iter().zip(weights.iter().rev()) {
            let change = weight - rho * dot(d, &direction);
            direction.iter_mut().zip(s).for_each(|(x, s)| *x += change * s);
        }
        // No root moves by more than half a typical distance at once.
        let longest = direction.iter().fold(0.0f64, |most, d| most.max(d.abs()));
        let limit = 0.5 * energy.unit.sqrt();
        let mut step = if longest > limit { limit / longest } else { 1.0 };
        let slope = dot(&gradient, &direction);
        if slope.is_nan() || slope >= 0.0 {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        }
        let mut accepted = false;
        let mut next_value = value;
        for _ in 0..12 {
            for ((n, y), d) in next.iter_mut().zip(&y).zip(&direction) {
                *n = y + step * d;
            }
            next_value = energy.evaluate(&next, &mut next_gradient);
            if next_value <= value + 1e-4 * step * slope {
                accepted = true;
                break;
            }
            step *= 0.4;
        }
        if !accepted {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        }
        let s: Vec<f64> = next.iter().zip(&y).map(|(a, b)| a - b).collect();
        let d: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &d);
        if curvature > 1e-12 * dot(&d, &d) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((s, d, 1.0 / curvature));
        }
        idle = if value - next_value < 1e-5 { idle + 1 } else { 0 };
        std::mem::swap(&mut y, &mut next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
        if idle >= 5 {
            break;
        }
    }
    (value, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_reach_the_published_construction() {
        // Logarithms of the energies of pymoo 0.6.2's points (seed 42), which take it seconds.
        for (m, n, known) in [(2, 100, 21.668), (3, 100, 25.388), (4, 100, 31.091), (3, 298, 31.849)] {
            for seed in [42, 1] {
                let energy = log_energy(&riesz_uncached(m, n, seed));
                assert!(energy <= known + 0.02, "m {m}, n {n}, seed {seed}: {energy} against {known}");
            }
        }
    }

    #[test]
    fn points_are_distinct_ordered_on_the_simplex_and_hold_the_corners() {
        for (m, n) in [(2, 2), (2, 3), (2, 17), (3, 3), (3, 4), (3, 50), (4, 30), (5, 40), (10, 25)] {
            let points = riesz(m, n, 7);
            let rows: Vec<_> = points.rows().collect();
            assert_eq!(rows.len(), n);
            assert!(rows.windows(2).all(|w| w[0] < w[1]), "{m} {n}");
            assert!(
                rows.iter()
                    .all(|r| r.iter().all(|&x| x >= 0.0) && (r.iter().sum::<f64>() - 1.0).abs() < 1e-12)
            );
            assert_eq!(rows.iter().filter(|r| r.contains(&1.0)).count(), m);
        }
    }

    #[test]
    fn the_cache_returns_what_was_constructed() {
        assert_eq!(riesz(3, 20, 5), riesz_uncached(3, 20, 5));
        assert_eq!(riesz(3, 20, 5), riesz(3, 20, 5));
        assert_ne!(riesz(3, 20, 5), riesz(3, 20, 6));
    }

    #[test]
    fn fewer_points_than_corners() {
        assert!(riesz(3, 0, 1).is_empty());
        assert_eq!(riesz(4, 1, 1), Points::from_rows(4, [[0.25; 4]]));
        assert_eq!(riesz(3, 2, 1), Points::from_rows(3, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]));
        assert_eq!(riesz(1, 3, 1), Points::from_rows(1, [[1.0]; 3]));
    }

    #[test]
    fn the_gradient_is_that_of_the_energy() {
        for m in [2, 3, 4] {
            let n = 12;
            let energy = Energy::new(m, n);
            let y = random_points(m, n, &mut stream(1, "moo/test", 0, 0));
            let mut gradient = vec![0.0; m * n];
            energy.evaluate(&y, &mut gradient);
            let mut unused = gradient.clone();
            for (at, &g) in gradient.iter().enumerate().filter(|(at, _)| at % n >= m) {
                let mut moved = y.clone();
                moved[at] += 1e-6;
                let above = energy.evaluate(&moved, &mut unused);
                moved[at] -= 2e-6;
                let below = energy.evaluate(&moved, &mut unused);
                let slope = (above - below) / 2e-6;
                assert!((slope - g).abs() <= 1e-5 * g.abs().max(1.0), "m {m}, {at}: {slope} and {g}");
            }
        }
    }

    #[test]
    fn energies_by_hand() {
        let pair = Points::from_rows(2, [[1.0, 0.0], [0.0, 1.0]]);
        assert!((log_energy(&pair) - 0.25f64.ln()).abs() < 1e-15);
        assert_eq!(log_energy(&Points::from_rows(2, [[1.0, 0.0]])), f64::NEG_INFINITY);
        assert_eq!(log_energy(&Points::from_rows(2, [[1.0, 0.0]; 2])), f64::INFINITY);
    }
}

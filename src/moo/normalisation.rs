//! How NSGA-III scales objectives: between an ideal and a nadir point that it learns as it goes.
//!
//! Follows pymoo's `HyperplaneNormalization` step by step: extreme points by the achievement
//! scalarising function, intercepts of the hyperplane through them, and three fall-backs where the
//! hyperplane makes no sense.
//!
//! Infinite objectives take no part: an ideal, worst or nadir coordinate comes from the finite
//! values of that objective, and extreme points from points that are finite throughout.

use super::Points;

/// Weight of the other axes in the achievement scalarising function.
const OTHER_AXES: f64 = 1e6;
/// Distances from the ideal point below this count as none there.
const NO_DISTANCE: f64 = 1e-3;
/// Ranges and intercepts up to this are degenerate.
const DEGENERATE: f64 = 1e-6;

/// The running estimate of ideal and nadir point.
#[derive(Debug, Clone)]
pub struct Normalisation {
    ideal: Vec<f64>,
    worst: Vec<f64>,
    nadir: Vec<f64>,
    extremes: Points,
}

impl Normalisation {
    /// Nothing seen yet.
    ///
    /// # Panics
    /// If there is no objective.
    pub fn new(objectives: usize) -> Self {
        Self {
            ideal: vec![f64::INFINITY; objectives],
            worst: vec![f64::NEG_INFINITY; objectives],
            nadir: vec![f64::INFINITY; objectives],
            extremes: Points::new(objectives),
        }
    }

    /// The best value of each objective so far (infinite until a finite one is seen).
    pub fn ideal(&self) -> &[f64] {
        &self.ideal
    }

    /// The value of each objective that counts as 1.
    pub fn nadir(&self) -> &[f64] {
        &self.nadir
    }

    /// The extreme point of each axis, in order; empty until a point is finite throughout.
    pub fn extreme_points(&self) -> &Points {
        &self.extremes
    }

    /// Takes in a population and the indices of its first front.
    ///
    /// # Panics
    /// If the points have another dimension or an index is out of range.
    pub fn update(&mut self, points: &Points, first_front: &[usize]) {
        let m = self.ideal.len();
        assert_eq!(points.dimension(), m, "points with other objectives");
        for row in points.rows() {
            lower(&mut self.ideal, row);
            raise(&mut self.worst, row);
        }
        self.update_extremes(points, first_front);

        let mut worst_of_population = vec![f64::NEG_INFINITY; m];
        points.rows().for_each(|row| raise(&mut worst_of_population, row));
        let mut worst_of_front = vec![f64::NEG_INFINITY; m];
        first_front.iter().for_each(|&i| raise(&mut worst_of_front, points.row(i)));

        self.nadir = self.hyperplane().unwrap_or(worst_of_front);
        for ((nadir, ideal), worst) in self.nadir.iter_mut().zip(&self.ideal).zip(worst_of_population) {
            // Written so that a NaN (of infinite ideal points) falls back as well.
            let wide = *nadir - ideal > DEGENERATE;
            if !wide {
                *nadir = worst;
            }
        }
    }

    /// For each axis the point closest to it, among the earlier extreme points and the first front.
    fn update_extremes(&mut self, points: &Points, first_front: &[usize]) {
        let m = self.ideal.len();
        let mut candidates = self.extremes.clone();
        for &i in first_front.iter().filter(|&&i| points.row(i).iter().all(|x| x.is_finite())) {
            candidates.push(points.row(i));
        }
        if candidates.is_empty() {
            return;
        }
        let nearest = (0..m).map(|axis| {
            let mut best = (f64::INFINITY, 0);
            for (i, row) in candidates.rows().enumerate() {
                let mut scalar = f64::NEG_INFINITY;
                for (j, (x, ideal)) in row.iter().zip(&self.ideal).enumerate() {
                    let distance = x - ideal;
                    let distance = if distance < NO_DISTANCE { 0.0 } else { distance };
                    scalar = scalar.max(if j == axis { distance } else { distance * OTHER_AXES });
                }
                if scalar < best.0 {
                    best = (scalar, i);
                }
            }
            best.1
        });
        let nearest: Vec<usize> = nearest.collect();
        self.extremes = candidates.select(&nearest);
    }

    /// Where the hyperplane through the extreme points cuts the axes, capped at the worst values
    /// seen; `None` where there is no sensible one.
    fn hyperplane(&self) -> Option<Vec<f64>> {
        let m = self.ideal.len();
        if self.extremes.len() < m {
            return None;
        }
        let rows: Vec<Vec<f64>> = self
            .extremes
            .rows()
            .map(|row| row.iter().zip(&self.ideal).map(|(x, ideal)| x - ideal).collect())
            .collect();
        let plane = solve_ones(&rows)?;
        let reproduces = rows.iter().all(|row| {
            let one: f64 = row.iter().zip(&plane).map(|(x, p)| x * p).sum();
            (one - 1.0).abs() <= 1e-8 + 1e-5
        });
        let intercepts: Vec<f64> = plane.iter().map(|p| 1.0 / p).collect();
        if !reproduces || !intercepts.iter().all(|&i| i > DEGENERATE) {
            return None;
        }
        Some((0..m).map(|j| (self.ideal[j] + intercepts[j]).min(self.worst[j])).collect())
    }
}

fn lower(to: &mut [f64], row: &[f64]) {
    for (t, &x) in to.iter_mut().zip(row).filter(|(_, x)| x.is_finite()) {
        *t = t.min(x);
    }
}

fn raise(to: &mut [f64], row: &[f64]) {
    for (t, &x) in to.iter_mut().zip(row).filter(|(_, x)| x.is_finite()) {
        *t = t.max(x);
    }
}

/// Solves A x = (1, .., 1) by Gaussian elimination with partial pivoting; `None` if singular.
fn solve_ones(rows: &[Vec<f64>]) -> Option<Vec<f64>> {
    let n = rows.len();
    let mut a = rows.to_vec();
    let mut b = vec![1.0; n];
    for k in 0..n {
        let mut pivot = k;
        for i in k + 1..n {
            if a[i][k].abs() > a[pivot][k].abs() {
                pivot = i;
            }
        }
        if a[pivot][k] == 0.0 {
            return None;
        }
        a.swap(k, pivot);
        b.swap(k, pivot);
        let (done, rest) = a.split_at_mut(k + 1);
        for (i, row) in rest.iter_mut().enumerate() {
            let factor = row[k] / done[k][k];
            for (x, d) in row.iter_mut().zip(&done[k]).skip(k) {
                *x -= factor * d;
            }
            b[k + 1 + i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_of_three_extremes_gives_its_intercepts() {
        let points =
            Points::from_rows(3, [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 8.0], [1.0, 1.0, 1.0]]);
        let mut norm = Normalisation::new(3);
        norm.update(&points, &[0, 1, 2, 3]);
        assert_eq!(norm.ideal(), [0.0; 3]);
        assert_eq!(norm.nadir(), [2.0, 4.0, 8.0]);
        assert_eq!(norm.extreme_points(), &points.select(&[0, 1, 2]));
        // Extreme points outlive the population they came from.
        norm.update(&points.select(&[3]), &[0]);
        assert_eq!(norm.nadir(), [2.0, 4.0, 8.0]);
    }

    #[test]
    fn without_a_plane_the_front_and_then_the_population_give_the_nadir() {
        let points = Points::from_rows(2, [[1.0, 5.0], [3.0, 7.0]]);
        let mut norm = Normalisation::new(2);
        norm.update(&points, &[0]);
        assert_eq!(norm.nadir(), [3.0, 7.0]);
        let mut single = Normalisation::new(1);
        single.update(&Points::from_rows(1, [[2.0], [5.0]]), &[0]);
        assert_eq!(single.nadir(), [5.0]);
    }

    #[test]
    fn infinities_take_no_part() {
        let inf = f64::INFINITY;
        let points = Points::from_rows(2, [[0.0, 1.0], [1.0, 0.0], [-inf, inf], [inf, inf]]);
        let mut norm = Normalisation::new(2);
        norm.update(&points, &[0, 1, 2]);
        assert_eq!((norm.ideal(), norm.nadir()), (&[0.0, 0.0][..], &[1.0, 1.0][..]));
        assert_eq!(norm.extreme_points(), &points.select(&[1, 0]));
        let mut nothing = Normalisation::new(2);
        nothing.update(&points.select(&[3]), &[0]);
        assert!(nothing.extreme_points().is_empty());
        nothing.update(&Points::new(2), &[]);
    }

    #[test]
    fn elimination_pivots_and_notices_singular_systems() {
        let x = solve_ones(&[vec![0.0, 2.0], vec![4.0, 0.0]]);
        assert_eq!(x, Some(vec![0.25, 0.5]));
        assert_eq!(solve_ones(&[vec![1.0, 2.0], vec![1.0, 2.0]]), None);
    }
}

//! Reference directions: points spread evenly over the unit simplex, in lexicographic order.
//!
//! Two constructions: the regular lattice of Das and Dennis (1998), whose size is a binomial
//! coefficient, and Riesz-energy points of Blank and Deb (2021) in [`riesz`](fn@riesz), which come
//! in any number.

use super::Points;
pub use super::riesz::{log_energy, riesz, riesz_uncached};

/// The lattice of Das and Dennis: all points of the unit simplex in `m` dimensions whose
/// coordinates are multiples of 1 / `partitions`, in lexicographic order. There are
/// (m + partitions - 1) choose partitions of them; with no partitions it is the centre alone.
///
/// # Panics
/// If `m` is 0.
pub fn das_dennis(m: usize, partitions: usize) -> Points {
    let mut points = Points::new(m);
    if partitions == 0 {
        points.push(&vec![1.0 / m as f64; m]);
        return points;
    }
    let mut parts = vec![0usize; m];
    parts[m - 1] = partitions;
    let mut row = vec![0.0; m];
    loop {
        for (x, &k) in row.iter_mut().zip(&parts) {
            *x = k as f64 / partitions as f64;
        }
        points.push(&row);
        // The next composition: one unit moves to the coordinate before the last non-zero one,
        // and what is left of that goes to the end.
        let Some(last) = parts.iter().rposition(|&k| k > 0).filter(|&last| last > 0) else { return points };
        let rest = parts[last] - 1;
        parts[last] = 0;
        parts[last - 1] += 1;
        parts[m - 1] += rest;
    }
}

/// How many points [`das_dennis`] has; `None` if that does not fit.
pub fn das_dennis_count(m: usize, partitions: usize) -> Option<usize> {
    let mut count = 1u128;
    for i in 1..m as u128 {
        count = count.checked_mul(partitions as u128 + i)? / i;
    }
    usize::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lattice_is_complete_ordered_and_on_the_simplex() {
        for (m, p) in [(1, 4), (2, 99), (3, 12), (4, 6), (5, 4)] {
            let points = das_dennis(m, p);
            assert_eq!(Some(points.len()), das_dennis_count(m, p));
            let rows: Vec<_> = points.rows().collect();
            assert!(rows.windows(2).all(|w| w[0] < w[1]));
            assert!(rows.iter().all(|r| (r.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        }
    }

    #[test]
    fn small_lattices_by_hand() {
        assert_eq!(das_dennis(2, 2), Points::from_rows(2, [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]));
        assert_eq!(das_dennis(4, 0), Points::from_rows(4, [[0.25; 4]]));
        assert_eq!(das_dennis_count(60, 1000), None);
    }
}

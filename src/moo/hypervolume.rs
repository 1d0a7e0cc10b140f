//! The volume that a set of points dominates, up to a reference point.
//!
//! One and two objectives are a pass over sorted points; three a sweep along the last objective
//! that keeps the dominated area of the first two (Fonseca, Paquete and Lopez-Ibanez, 2006),
//! O(n log n) but for moves in a short list; every further objective cuts the volume into slabs,
//! each of which is a hypervolume of one objective less. [`hypervolume_plain`] is slabs all the
//! way down.

use super::Points;

/// The volume of the region that at least one point dominates and that dominates `reference`.
/// Exact in any dimension (quick up to four). Points that are not better than the reference in
/// every objective add nothing; a reference with a NaN gives NaN; an infinite region is infinite.
///
/// # Panics
/// If `reference` has another dimension than the points.
pub fn hypervolume(points: &Points, reference: &[f64]) -> f64 {
    measure(points, reference, |rows, reference| volume(&mut rows.to_vec(), reference))
}

/// [`hypervolume`] by slabs alone: O(n^m).
///
/// # Panics
/// If `reference` has another dimension than the points.
pub fn hypervolume_plain(points: &Points, reference: &[f64]) -> f64 {
    measure(points, reference, slabs_plain)
}

fn measure(points: &Points, reference: &[f64], volume: impl Fn(&[&[f64]], &[f64]) -> f64) -> f64 {
    assert_eq!(reference.len(), points.dimension(), "a reference point of another dimension");
    if reference.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    let inside: Vec<&[f64]> =
        points.rows().filter(|row| row.iter().zip(reference).all(|(x, r)| x < r)).collect();
    let infinite = |row: &[f64]| row.iter().zip(reference).any(|(x, r)| (r - x).is_infinite());
    if inside.iter().any(|row| infinite(row)) {
        return f64::INFINITY;
    }
    volume(&inside, reference)
}

fn by_coordinate(rows: &mut [&[f64]], coordinate: usize) {
    rows.sort_unstable_by(|a, b| {
        a[coordinate].total_cmp(&b[coordinate]).then_with(|| super::points::compare(a, b))
    });
}

fn volume(rows: &mut [&[f64]], reference: &[f64]) -> f64 {
    match reference.len() {
        1 => rows.iter().map(|row| reference[0] - row[0]).fold(0.0, f64::max),
        2 => {
            by_coordinate(rows, 0);
            let (mut area, mut ceiling) = (0.0, reference[1]);
            for row in rows {
                if row[1] < ceiling {
                    area += (reference[0] - row[0]) * (ceiling - row[1]);
                    ceiling = row[1];
                }
            }
            area
        }
        3 => {
            by_coordinate(rows, 2);
            let mut profile = Profile::new(reference[0], reference[1]);
            let mut total = 0.0;
            for (i, row) in rows.iter().enumerate() {
                profile.add(row[0], row[1]);
                let top = rows.get(i + 1).map_or(reference[2], |next| next[2]);
                total += profile.area * (top - row[2]);
            }
            total
        }
        m => {
            by_coordinate(rows, m - 1);
            let mut total = 0.0;
            let mut below: Vec<&[f64]> = Vec::with_capacity(rows.len());
            for (i, row) in rows.iter().enumerate() {
                // Only points that nothing below them covers can change the slabs above.
                let face = &row[..m - 1];
                if !below.iter().any(|b| b.iter().zip(face).all(|(x, y)| x <= y)) {
                    below.retain(|b| !face.iter().zip(*b).all(|(x, y)| x <= y));
                    below.push(face);
                }
                let top = rows.get(i + 1).map_or(reference[m - 1], |next| next[m - 1]);
                if top > row[m - 1] {
                    total += volume(&mut below.clone(), &reference[..m - 1]) * (top - row[m - 1]);
                }
            }
            total
        }
    }
}

/// The area that points dominate in the plane, as they come in any order.
struct Profile {
    area: f64,
    /// The corners, x rising and y falling, between two sentinels at the reference.
    corners: Vec<(f64, f64)>,
}

impl Profile {
    fn new(right: f64, top: f64) -> Self {
        Self { area: 0.0, corners: vec![(f64::NEG_INFINITY, top), (right, f64::NEG_INFINITY)] }
    }

    fn add(&mut self, x: f64, y: f64) {
        let start = self.corners.partition_point(|corner| corner.0 <= x);
        // The corner just left of x: where it is as low as y, the point is covered already.
        if self.corners[start - 1].1 <= y {
            return;
        }
        let mut end = start;
        let mut ceiling = self.corners[start - 1].1;
        let mut left = x;
        while self.corners[end].1 >= y {
            self.area += (self.corners[end].0 - left) * (ceiling - y);
            (left, ceiling) = self.corners[end];
            end += 1;
        }
        self.area += (self.corners[end].0 - left) * (ceiling - y);
        // A corner straight above the new one is hidden by it.
        let start = if self.corners[start - 1].0 == x { start - 1 } else { start };
        self.corners.splice(start..end, [(x, y)]);
    }
}

fn slabs_plain(rows: &[&[f64]], reference: &[f64]) -> f64 {
    let last = reference.len() - 1;
    let mut cuts: Vec<f64> = rows.iter().map(|row| row[last]).chain([reference[last]]).collect();
    cuts.sort_by(f64::total_cmp);
    let mut total = 0.0;
    for cut in cuts.windows(2) {
        let below: Vec<&[f64]> =
            rows.iter().filter(|row| row[last] <= cut[0]).map(|row| &row[..last]).collect();
        let face = if last == 0 { 1.0 } else { slabs_plain(&below, &reference[..last]) };
        total += face * (cut[1] - cut[0]);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn boxes_by_hand() {
        assert_eq!(hypervolume(&Points::new(3), &[1.0; 3]), 0.0);
        for m in 1..6 {
            let points = Points::from_rows(m, [vec![0.5; m], vec![0.5; m], vec![1.0; m], vec![f64::NAN; m]]);
            assert_eq!(hypervolume(&points, &vec![1.0; m]), 0.5f64.powi(m as i32));
        }
        let corner = Points::from_rows(2, [[0.0, 1.0], [1.0, 0.0]]);
        assert_eq!(hypervolume(&corner, &[2.0, 2.0]), 3.0);
    }

    #[test]
    fn infinities_and_missing_references() {
        let points = Points::from_rows(3, [[f64::NEG_INFINITY, 0.0, 0.0], [0.5, 0.5, f64::INFINITY]]);
        assert_eq!(hypervolume(&points, &[1.0; 3]), f64::INFINITY);
        assert_eq!(hypervolume(&points, &[1.0, 0.0, 1.0]), 0.0);
        assert!(hypervolume(&points, &[1.0, f64::NAN, 1.0]).is_nan());
    }

    proptest! {
        #[test]
        fn fast_volumes_are_the_plain_ones(
            rows in (1usize..6).prop_flat_map(|m| prop::collection::vec(
                prop::collection::vec(prop_oneof![(0u8..5).prop_map(f64::from), 0.0..5.0f64], m), 0..14)),
            reach in 2.0..6.0f64,
        ) {
            let m = rows.first().map_or(3, Vec::len);
            let points = Points::from_rows(m, &rows);
            let reference: Vec<f64> = (0..m).map(|i| reach - 0.25 * i as f64).collect();
            let (fast, plain) = (hypervolume(&points, &reference), hypervolume_plain(&points, &reference));
            prop_assert!((fast - plain).abs() <= 1e-12 * plain.max(1.0), "{fast} and {plain}");
        }
    }
}

//! NSGA-III survival (Deb and Jain, 2014) with the details of pymoo 0.6.
//!
//! A generation survives by fronts. The front that does not fit whole is thinned by niches: every
//! individual belongs to the reference direction that it is closest to after normalisation, and
//! the emptiest directions take their next member first.

use super::{Points, normalisation::Normalisation, sorting};
use crate::random::Stream;
use rand::RngExt;
use rand::seq::SliceRandom;

/// Scaled objectives are kept within this, so that their squares stay finite.
const FAR: f64 = 1e100;

/// Reference directions, laid out for quick association.
#[derive(Debug, Clone)]
pub struct Directions {
    points: Points,
    /// Unit vectors, one coordinate after the other.
    unit: Vec<f64>,
}

/// Which direction every individual belongs to, and how far from it it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Association {
    /// Index of the direction at the smallest perpendicular distance, the lowest one on a tie.
    pub niche: Vec<usize>,
    /// The distance to that direction, in the normalised objective space.
    pub distance: Vec<f64>,
}

impl Directions {
    /// # Panics
    /// If there is no direction, or one is zero or not finite.
    pub fn new(points: Points) -> Self {
        let (n, m) = (points.len(), points.dimension());
        assert!(n > 0, "at least one reference direction is needed");
        let mut unit = vec![0.0; n * m];
        for (i, row) in points.rows().enumerate() {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!(norm > 0.0 && norm.is_finite(), "reference direction {i} has no length");
            for (j, x) in row.iter().enumerate() {
                unit[j * n + i] = x / norm;
            }
        }
        Self { points, unit }
    }

    /// The directions as given.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Associates the points at `indices` with the directions, in the order of `indices`.
    ///
    /// # Panics
    /// If dimensions differ or an index is out of range.
    pub fn associate(&self, points: &Points, indices: &[usize], ideal: &[f64], nadir: &[f64]) -> Association {
        let (n, m) = (self.points.len(), self.points.dimension());
        let mut association = Association {
            niche: Vec::with_capacity(indices.len()),
            distance: Vec::with_capacity(indices.len()),
        };
        let mut scaled = vec![0.0; m];
        let mut along = vec![0.0; n];
        for &i in indices {
            scale(points.row(i), ideal, nadir, &mut scaled);
            // The closest direction is the one with the longest projection. Projections lose the
            // last digits of small distances, so all that come near the longest are compared by
            // the distance itself.
            along.fill(0.0);
            for (&x, unit) in scaled.iter().zip(self.unit.chunks_exact(n)) {
                for (sum, &u) in along.iter_mut().zip(unit) {
                    *sum += x * u;
                }
            }
            let squared = |a: f64| a * a;
            let longest = along.iter().fold(0.0f64, |best, &a| best.max(squared(a)));
            let near = longest - 1e-9 * scaled.iter().map(|&x| squared(x)).sum::<f64>();
            let mut best = (f64::INFINITY, 0);
            for (k, &a) in along.iter().enumerate().filter(|&(_, &a)| squared(a) >= near) {
                let distance = scaled
                    .iter()
                    .enumerate()
                    .map(|(j, x)| squared(a * self.unit[j * n + k] - x))
                    .sum::<f64>()
                    .sqrt();
                if distance < best.0 {
                    best = (distance, k);
                }
            }
            association.niche.push(best.1);
            association.distance.push(best.0);
        }
        association
    }

    /// [`associate`](Self::associate) by the definition.
    ///
    /// # Panics
    /// If dimensions differ or an index is out of range.
    pub fn associate_plain(
        &self,
        points: &Points,
        indices: &[usize],
        ideal: &[f64],
        nadir: &[f64],
    ) -> Association {
        let mut association = Association { niche: Vec::new(), distance: Vec::new() };
        let mut scaled = vec![0.0; points.dimension()];
        for &i in indices {
            scale(points.row(i), ideal, nadir, &mut scaled);
            let mut best = (f64::INFINITY, 0);
            for (k, direction) in self.points.rows().enumerate() {
                let norm = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
                let along: f64 = scaled.iter().zip(direction).map(|(x, d)| x * (d / norm)).sum();
                let distance = scaled
                    .iter()
                    .zip(direction)
                    .map(|(x, d)| (along * (d / norm) - x).powi(2))
                    .sum::<f64>()
                    .sqrt();
                if distance < best.0 {
                    best = (distance, k);
                }
            }
            association.niche.push(best.1);
            association.distance.push(best.0);
        }
        association
    }
}

/// Maps ideal to 0 and nadir to 1; infinities and overflows become far but finite, and where there
/// is no telling, 0.
fn scale(row: &[f64], ideal: &[f64], nadir: &[f64], scaled: &mut [f64]) {
    for (j, s) in scaled.iter_mut().enumerate() {
        let range = nadir[j] - ideal[j];
        let x = (row[j] - ideal[j]) / if range == 0.0 { 1e-12 } else { range };
        *s = if !x.is_nan() {
            x.clamp(-FAR, FAR)
        } else if row[j] == f64::INFINITY {
            FAR
        } else {
            0.0
        };
    }
}

/// The survival operator, with what it has learnt over the generations.
#[derive(Debug, Clone)]
pub struct Survival {
    directions: Directions,
    normalisation: Normalisation,
}

impl Survival {
    /// # Panics
    /// If there is no direction, or one is zero or not finite.
    pub fn new(directions: Points) -> Self {
        let normalisation = Normalisation::new(directions.dimension());
        Self { directions: Directions::new(directions), normalisation }
    }

    /// The directions it works with.
    pub fn directions(&self) -> &Directions {
        &self.directions
    }

    /// The present ideal, nadir and extreme points.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// The indices of the `count` points that survive, by fronts, those of the thinned front in the
    /// order they were taken; all points where there are no more than `count`. There may be more
    /// directions than points. Draws are made only where niches or members are equally good.
    ///
    /// # Panics
    /// If the points have another dimension than the directions.
    pub fn survive(&mut self, points: &Points, count: usize, rng: &mut Stream) -> Vec<usize> {
        let fronts = sorting::fronts(points);
        let Some(first) = fronts.first() else { return Vec::new() };
        self.normalisation.update(points, first);

        let mut survivors: Vec<usize> = Vec::with_capacity(points.len());
        for front in &fronts {
            if survivors.len() + front.len() <= count {
                survivors.extend(front);
                continue;
            }
            let room = count - survivors.len();
            if room > 0 {
                let taken = self.thin(points, &survivors, front, room, rng);
                survivors.extend(taken);
            }
            break;
        }
        survivors
    }

    /// Takes `room` members of a front, given those who have survived already.
    fn thin(
        &self,
        points: &Points,
        survivors: &[usize],
        front: &[usize],
        room: usize,
        rng: &mut Stream,
    ) -> Vec<usize> {
        let (ideal, nadir) = (self.normalisation.ideal(), self.normalisation.nadir());
        let directions = self.directions.points.len();
        let mut occupied = vec![0usize; directions];
        for niche in self.directions.associate(points, survivors, ideal, nadir).niche {
            occupied[niche] += 1;
        }
        let association = self.directions.associate(points, front, ideal, nadir);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); directions];
        for (position, &niche) in association.niche.iter().enumerate() {
            members[niche].push(position);
        }
        let mut open: Vec<usize> = (0..directions).filter(|&d| !members[d].is_empty()).collect();
        let mut taken = Vec::with_capacity(room);
        while taken.len() < room && !open.is_empty() {
            let least = open.iter().map(|&d| occupied[d]).min().unwrap_or(0);
            let mut next: Vec<usize> = open.iter().copied().filter(|&d| occupied[d] == least).collect();
            // Where not all of the emptiest directions can be served, chance says which are.
            let (chosen, _) = next.partial_shuffle(rng, room - taken.len());
            for &mut d in chosen {
                let candidates = &mut members[d];
                let pick = if occupied[d] == 0 {
                    closest(candidates, &association.distance, rng)
                } else {
                    rng.random_range(0..candidates.len())
                };
                taken.push(front[candidates.swap_remove(pick)]);
                occupied[d] += 1;
            }
            open.retain(|&d| !members[d].is_empty());
        }
        taken
    }
}

/// The place in `candidates` of the closest one, by chance among equals.
fn closest(candidates: &[usize], distance: &[f64], rng: &mut Stream) -> usize {
    let least = candidates.iter().map(|&c| distance[c]).fold(f64::INFINITY, f64::min);
    let ties: Vec<usize> = (0..candidates.len()).filter(|&p| distance[candidates[p]] <= least).collect();
    match ties.len() {
        0 | 1 => ties.first().copied().unwrap_or(0),
        several => ties[rng.random_range(0..several)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moo::directions::das_dennis;
    use crate::random::stream;
    use proptest::prelude::*;

    fn rng() -> Stream {
        stream(7, "moo/test", 0, 0)
    }

    #[test]
    fn survivors_spread_over_the_directions() {
        // A dense front on the plane: with as many places as directions, each gets its own point.
        let points = das_dennis(3, 12);
        let mut survival = Survival::new(das_dennis(3, 4));
        let mut survivors = survival.survive(&points, 15, &mut rng());
        survivors.sort_unstable();
        let on_direction: Vec<usize> = (0..points.len())
            .filter(|&i| points.row(i).iter().all(|x| (x * 4.0 - (x * 4.0).round()).abs() < 1e-9))
            .collect();
        assert_eq!(survivors, on_direction);
    }

    #[test]
    fn whole_fronts_come_first_and_counts_are_kept() {
        let points = Points::from_rows(2, [[3.0, 3.0], [0.0, 1.0], [2.0, 2.0], [1.0, 0.0], [1.0, 1.0]]);
        let directions = das_dennis(2, 9);
        let survive = |count| Survival::new(directions.clone()).survive(&points, count, &mut rng());
        assert_eq!(survive(0), [0usize; 0]);
        assert_eq!(survive(3), [1, 3, 4]);
        assert_eq!(survive(99), [1, 3, 4, 2, 0]);
        assert!(Survival::new(directions.clone()).survive(&Points::new(2), 3, &mut rng()).is_empty());
    }

    #[test]
    fn ties_are_dealt_with_by_the_stream_alone() {
        let points = Points::from_rows(3, vec![[1.0, 2.0, 3.0]; 40]);
        let survive =
            |seed| Survival::new(das_dennis(3, 12)).survive(&points, 10, &mut stream(seed, "moo/test", 0, 0));
        assert_eq!(survive(1), survive(1));
        assert_ne!(survive(1), survive(2));
        let mut distinct = survive(1);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 10);
    }

    fn coordinate() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => 0.0..1.0f64,
            4 => (0u8..4).prop_map(f64::from),
            1 => any::<f64>(),
        ]
    }

    proptest! {
        #[test]
        fn any_objectives_survive_in_number_and_by_rank(
            rows in (1usize..5).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(coordinate(), m), 1..60)),
            count in 0usize..70,
        ) {
            let m = rows[0].len();
            let points = Points::from_rows(m, &rows);
            let mut survival = Survival::new(das_dennis(m, 5));
            for _ in 0..2 {
                let survivors = survival.survive(&points, count, &mut rng());
                let mut distinct = survivors.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), count.min(rows.len()));
                let ranks = sorting::ranks(&points);
                let worst = survivors.iter().map(|&i| ranks[i]).max().unwrap_or(0);
                let out = (0..rows.len()).filter(|i| !survivors.contains(i));
                prop_assert!(count == 0 || out.into_iter().all(|i| ranks[i] >= worst));
            }
        }

        #[test]
        fn quick_association_is_the_definition(
            rows in (2usize..5).prop_flat_map(|m| prop::collection::vec(prop::collection::vec(coordinate(), m), 1..40)),
        ) {
            let m = rows[0].len();
            let points = Points::from_rows(m, &rows);
            let all: Vec<usize> = (0..rows.len()).collect();
            let mut norm = Normalisation::new(m);
            norm.update(&points, &sorting::non_dominated(&points));
            let directions = Directions::new(das_dennis(m, 7));
            prop_assert_eq!(
                directions.associate(&points, &all, norm.ideal(), norm.nadir()),
                directions.associate_plain(&points, &all, norm.ideal(), norm.nadir())
            );
        }
    }
}

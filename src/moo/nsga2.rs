//! NSGA-II survival (Deb et al., 2002): by rank, and within the last front by crowding distance.

use super::{Points, sorting};
use crate::random::Stream;
use rand::RngExt;

/// The crowding distance of each member of a front, in the order of `front`: the mean over the
/// objectives of the gap between its two neighbours, as a share of the front's range.
///
/// The ends of an objective's range are infinitely far from anything. An objective that is the
/// same for all, or whose range is infinite, separates nobody. Of equal points the first in
/// `front` keeps the distance, and the others have 0.
///
/// # Panics
/// If an index is out of range.
pub fn crowding(points: &Points, front: &[usize]) -> Vec<f64> {
    let m = points.dimension();
    let mut distance = vec![0.0; front.len()];
    // Copies only stand in each other's way, so they are left out.
    let mut order: Vec<usize> = (0..front.len()).collect();
    let row = |p: usize| points.row(front[p]);
    order.sort_by(|&a, &b| super::points::compare(row(a), row(b)));
    order.dedup_by(|later, earlier| row(*later) == row(*earlier));
    for j in 0..m {
        order.sort_by(|&a, &b| row(a)[j].total_cmp(&row(b)[j]).then(a.cmp(&b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else { break };
        let range = row(last)[j] - row(first)[j];
        if !(range > 0.0 && range.is_finite()) {
            continue;
        }
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        for w in order.windows(3) {
            distance[w[1]] += (row(w[2])[j] - row(w[0])[j]) / range / m as f64;
        }
    }
    distance
}

/// The survivors and how crowded each is within its front.
#[derive(Debug, Clone, PartialEq)]
pub struct Survivors {
    /// Indices of the points that survive, by fronts.
    pub indices: Vec<usize>,
    /// Crowding distance of each, in its whole front.
    pub crowding: Vec<f64>,
}

/// The indices of the `count` points that survive (all of them if there are no more), by fronts;
/// of the last front the least crowded, in that order, the lower index on a tie.
pub fn survive(points: &Points, count: usize) -> Vec<usize> {
    survivors(points, count).indices
}

/// [`survive`], with crowding distances for [`tournament`].
pub fn survivors(points: &Points, count: usize) -> Survivors {
    let mut survivors = Survivors { indices: Vec::new(), crowding: Vec::new() };
    for front in sorting::fronts(points) {
        let room = count - survivors.indices.len();
        if room == 0 {
            break;
        }
        let distance = crowding(points, &front);
        let mut order: Vec<usize> = (0..front.len()).collect();
        if front.len() > room {
            order.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]));
            order.truncate(room);
        }
        survivors.indices.extend(order.iter().map(|&p| front[p]));
        survivors.crowding.extend(order.iter().map(|&p| distance[p]));
    }
    survivors
}

/// The better of two individuals: the one that dominates, else the less crowded one, else chance.
///
/// # Panics
/// If `a` or `b` is out of range.
pub fn tournament(points: &Points, crowding: &[f64], a: usize, b: usize, rng: &mut Stream) -> usize {
    let (x, y) = (points.row(a), points.row(b));
    if sorting::dominates(x, y) || crowding[a] > crowding[b] && !sorting::dominates(y, x) {
        a
    } else if sorting::dominates(y, x) || crowding[b] > crowding[a] || rng.random() {
        b
    } else {
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use proptest::prelude::*;

    #[test]
    fn crowding_by_hand() {
        let points = Points::from_rows(2, [[0.0, 4.0], [1.0, 2.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]);
        let inf = f64::INFINITY;
        assert_eq!(crowding(&points, &[0, 1, 2, 3, 4]), [inf, 0.75, 0.0, 0.625, inf]);
        assert!(crowding(&points, &[]).is_empty());
        assert_eq!(crowding(&points, &[2, 1]), [0.0, 0.0]);
    }

    #[test]
    fn the_most_crowded_of_the_last_front_leave_first() {
        let points = Points::from_rows(2, [[9.0, 9.0], [0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]);
        assert_eq!(survive(&points, 5), [1, 2, 3, 4, 0]);
        assert_eq!(survive(&points, 3), [1, 4, 2]);
        assert_eq!(survive(&points, 0), [0usize; 0]);
        assert!(survive(&Points::new(2), 3).is_empty());
    }

    #[test]
    fn a_tournament_looks_at_dominance_then_crowding_then_chance() {
        let points = Points::from_rows(2, [[0.0, 0.0], [1.0, 1.0], [-1.0, 2.0], [2.0, -1.0]]);
        let mut rng = stream(1, "moo/test", 0, 0);
        let crowding = [0.0, 9.0, 1.0, 1.0];
        assert_eq!(tournament(&points, &crowding, 0, 1, &mut rng), 0);
        assert_eq!(tournament(&points, &crowding, 1, 0, &mut rng), 0);
        assert_eq!(tournament(&points, &crowding, 2, 0, &mut rng), 2);
        assert_eq!(tournament(&points, &crowding, 0, 2, &mut rng), 2);
        let winners: Vec<usize> = (0..64).map(|_| tournament(&points, &crowding, 2, 3, &mut rng)).collect();
        assert!(winners.contains(&2) && winners.contains(&3));
    }

    proptest! {
        #[test]
        fn any_objectives_survive_in_number(
            rows in (1usize..5).prop_flat_map(|m| prop::collection::vec(
                prop::collection::vec(prop_oneof![4 => 0.0..1.0f64, 2 => (0u8..3).prop_map(f64::from), 1 => any::<f64>()], m), 1..50)),
            count in 0usize..60,
        ) {
            let points = Points::from_rows(rows[0].len(), &rows);
            let survivors = survivors(&points, count);
            prop_assert!(survivors.crowding.iter().all(|c| *c >= 0.0));
            let mut distinct = survivors.indices;
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), count.min(rows.len()));
        }
    }
}

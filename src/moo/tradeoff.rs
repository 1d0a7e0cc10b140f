//! High trade-off points: the members of a front that are costly to leave.
//!
//! Rachmawati and Srinivasan's measure as pymoo computes it: moving from point i to a neighbour j
//! sacrifices in some objectives and gains in others, and mu(i) is the least sacrifice per unit of
//! gain over the neighbourhood. The knees of a front have the largest mu.

use super::Points;

/// Radius of a neighbourhood in the front scaled to the unit cube.
const RADIUS: f64 = 0.125;

/// mu of every point of a front.
///
/// The front is first scaled to 0..1 in each objective. The neighbours of a point are all others
/// within a distance of 0.125, but at least the min(2 m, n - 1) nearest. A neighbour that gains
/// nothing gives no ratio; if none does (a single point, or equal points alone), mu is infinite.
/// An infinite objective counts as the nearer end of the finite range of that objective.
pub fn tradeoff(front: &Points) -> Vec<f64> {
    let (n, m) = (front.len(), front.dimension());
    let scaled = scale(front);
    let at_least = (2 * m).min(n.saturating_sub(1));
    let mut others: Vec<(f64, usize)> = Vec::with_capacity(n);
    (0..n)
        .map(|i| {
            let a = scaled.row(i);
            others.clear();
            others.extend((0..n).filter(|&j| j != i).map(|j| {
                let b = scaled.row(j);
                (a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt(), j)
            }));
            others.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            let near = others.partition_point(|other| other.0 <= RADIUS).max(at_least);
            let mut mu = f64::INFINITY;
            for &(_, j) in &others[..near] {
                let (mut sacrifice, mut gain) = (0.0, 0.0);
                for (x, y) in a.iter().zip(scaled.row(j)) {
                    sacrifice += (y - x).max(0.0);
                    gain += (x - y).max(0.0);
                }
                if gain > 0.0 {
                    mu = mu.min(sacrifice / gain);
                }
            }
            mu
        })
        .collect()
}

/// The indices, ascending, of the `k` points with the largest mu (all of them if there are fewer).
/// On a tie the lower index wins, so a front sorted by genotype breaks ties by genotype.
pub fn best(front: &Points, k: usize) -> Vec<usize> {
    let mu = tradeoff(front);
    let mut order: Vec<usize> = (0..front.len()).collect();
    order.sort_by(|&a, &b| mu[b].total_cmp(&mu[a]));
    order.truncate(k);
    order.sort_unstable();
    order
}

fn scale(front: &Points) -> Points {
    let m = front.dimension();
    let mut low = vec![f64::INFINITY; m];
    let mut high = vec![f64::NEG_INFINITY; m];
    for row in front.rows() {
        for (j, &x) in row.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            low[j] = low[j].min(x);
            high[j] = high[j].max(x);
        }
    }
    Points::from_rows(
        m,
        front.rows().map(|row| {
            (0..m)
                .map(|j| {
                    let range = high[j] - low[j];
                    if range > 0.0 && range.is_finite() {
                        ((row[j] - low[j]) / range).clamp(0.0, 1.0)
                    } else {
                        0.0
                    }
                })
                .collect::<Vec<_>>()
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knee_has_the_largest_mu() {
        let front = Points::from_rows(2, [[0.0, 1.0], [0.1, 0.1], [1.0, 0.0]]);
        let mu = tradeoff(&front);
        assert!((mu[1] - 9.0).abs() < 1e-12, "{mu:?}");
        assert_eq!(best(&front, 1), [1]);
        assert_eq!(best(&front, 9), [0, 1, 2]);
    }

    #[test]
    fn degenerate_fronts_are_defined() {
        assert!(tradeoff(&Points::new(2)).is_empty());
        assert!(best(&Points::new(2), 4).is_empty());
        assert_eq!(tradeoff(&Points::from_rows(2, [[3.0, 4.0]])), [f64::INFINITY]);
        let equal = Points::from_rows(3, [[1.0, 2.0, 3.0]; 9]);
        assert_eq!(tradeoff(&equal), [f64::INFINITY; 9]);
        assert_eq!(best(&equal, 4), [0, 1, 2, 3]);
        let odd = Points::from_rows(2, [[f64::NAN, 0.0], [0.0, f64::NEG_INFINITY], [1.0, -1.0]]);
        assert!(tradeoff(&odd).iter().all(|mu| !mu.is_nan()));
    }
}

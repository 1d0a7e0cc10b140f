//! How good predictions are.
//!
//! Every measure is `None` where it has no value: lists of different length, a NaN, fewer than two
//! pairs (one for RMSE), or, for the rank correlations, a list whose values are all equal. Infinite
//! values rank as they compare; RMSE has no value with them.

use std::cmp::Ordering;

/// Root of the mean squared difference, in the unit of the values.
pub fn rmse(predicted: &[f64], measured: &[f64]) -> Option<f64> {
    if predicted.len() != measured.len() || predicted.is_empty() {
        return None;
    }
    let squares: f64 = predicted.iter().zip(measured).map(|(p, m)| (p - m) * (p - m)).sum();
    let value = (squares / predicted.len() as f64).sqrt();
    value.is_finite().then_some(value)
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, where ties share their mean rank.
pub fn spearman(predicted: &[f64], measured: &[f64]) -> Option<f64> {
    if !comparable(predicted, measured) {
        return None;
    }
    let (a, b) = (ranks(predicted), ranks(measured));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let (mut product, mut squares_a, mut squares_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        product += (a - mean) * (b - mean);
        squares_a += (a - mean) * (a - mean);
        squares_b += (b - mean) * (b - mean);
    }
    (squares_a > 0.0 && squares_b > 0.0).then(|| (product / (squares_a * squares_b).sqrt()).clamp(-1.0, 1.0))
}

/// Kendall's tau-b: concordant less discordant pairs over the geometric mean of the pairs that each
/// list tells apart. O(n log n) by Knight's merge sort (1966).
pub fn kendall(predicted: &[f64], measured: &[f64]) -> Option<f64> {
    if !comparable(predicted, measured) {
        return None;
    }
    let mut pairs: Vec<(f64, f64)> = predicted.iter().copied().zip(measured.iter().copied()).collect();
    pairs.sort_unstable_by(|x, y| compare(x.0, y.0).then(compare(x.1, y.1)));
    let ties_first = tied_pairs(&pairs, |x, y| x.0 == y.0);
    let ties_both = tied_pairs(&pairs, |x, y| x == y);
    let mut second: Vec<f64> = pairs.iter().map(|p| p.1).collect();
    let discordant = inversions(&mut second);
    let ties_second = tied_pairs(&second, |x, y| x == y);
    let n = predicted.len() as u64;
    tau_b(n * (n - 1) / 2, ties_first, ties_second, ties_both, discordant)
}

/// Tau-b from numbers of pairs: all, tied in either list, tied in both, discordant.
fn tau_b(all: u64, ties_first: u64, ties_second: u64, ties_both: u64, discordant: u64) -> Option<f64> {
    let (first, second) = (all - ties_first, all - ties_second);
    if first == 0 || second == 0 {
        return None;
    }
    let difference = (all + ties_both) as f64 - (ties_first + ties_second) as f64 - 2.0 * discordant as f64;
    Some((difference / ((first as f64 * second as f64).sqrt())).clamp(-1.0, 1.0))
}

fn comparable(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.len() >= 2 && !a.iter().chain(b).any(|v| v.is_nan())
}

/// The order of two numbers that are not NaN; -0 equals 0.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// Ranks from 0; ties share their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| compare(values[i], values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|&i, &j| values[i] == values[j]) {
        for &index in run {
            ranks[index] = start as f64 + (run.len() as f64 - 1.0) / 2.0;
        }
        start += run.len();
    }
    ranks
}

/// Pairs within the runs of equal neighbours.
fn tied_pairs<T>(sorted: &[T], same: impl FnMut(&T, &T) -> bool) -> u64 {
    sorted.chunk_by(same).map(|run| run.len() as u64 * (run.len() as u64 - 1) / 2).sum()
}

/// Sorts, and counts the pairs that stood in strictly descending order.
fn inversions(values: &mut Vec<f64>) -> u64 {
    let n = values.len();
    let mut merged = Vec::with_capacity(n);
    let mut count = 0;
    let mut width = 1;
    while width < n {
        merged.clear();
        for block in values.chunks(2 * width) {
            let (mut left, mut right) = block.split_at(width.min(block.len()));
            while let (Some(&l), Some(&r)) = (left.first(), right.first()) {
                if r < l {
                    count += left.len() as u64;
                    merged.push(r);
                    right = &right[1..];
                } else {
                    merged.push(l);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Kendall's tau-b by looking at every pair.
    fn plain_kendall(a: &[f64], b: &[f64]) -> Option<f64> {
        let (mut all, mut first, mut second, mut both, mut discordant) = (0, 0, 0, 0, 0);
        for i in 0..a.len() {
            for j in 0..i {
                all += 1;
                let (x, y) = (compare(a[i], a[j]), compare(b[i], b[j]));
                first += u64::from(x.is_eq());
                second += u64::from(y.is_eq());
                both += u64::from(x.is_eq() && y.is_eq());
                discordant += u64::from(x != Ordering::Equal && x == y.reverse());
            }
        }
        tau_b(all, first, second, both, discordant)
    }

    // scipy 1.17.1:
    // a = [1, 2, 2, 3, 5, 4, 7, 7]; b = [2, 1, 3, 3, 4, 6, 5, 5]
    // scipy.stats.kendalltau(a, b).statistic, scipy.stats.spearmanr(a, b).statistic
    #[test]
    fn agrees_with_scipy() {
        let a = [1., 2., 2., 3., 5., 4., 7., 7.];
        let b = [2., 1., 3., 3., 4., 6., 5., 5.];
        assert!((kendall(&a, &b).unwrap() - 0.653846153846154).abs() < 1e-12);
        assert!((spearman(&a, &b).unwrap() - 0.7987804878048781).abs() < 1e-12);
        assert!((rmse(&a, &b).unwrap() - 2f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn degenerate_lists_have_no_correlation() {
        for (a, b) in [
            (vec![], vec![]),
            (vec![1.0], vec![2.0]),
            (vec![1.0, 1.0], vec![1.0, 2.0]),
            (vec![1.0, 2.0], vec![f64::NAN, 2.0]),
            (vec![1.0, 2.0], vec![1.0, 2.0, 3.0]),
        ] {
            assert_eq!(kendall(&a, &b), None);
            assert_eq!(spearman(&a, &b), None);
        }
        assert_eq!(rmse(&[], &[]), None);
        assert_eq!(rmse(&[1.0], &[f64::NAN]), None);
        assert_eq!(rmse(&[1.0], &[f64::INFINITY]), None);
        assert_eq!(rmse(&[1.0], &[3.0]), Some(2.0));
    }

    #[test]
    fn infinite_values_and_both_zeros_rank() {
        let a = [f64::NEG_INFINITY, -0.0, 0.0, f64::INFINITY];
        assert_eq!(kendall(&a, &[1., 2., 2., 3.]), Some(1.0));
        assert_eq!(spearman(&a, &[3., 2., 2., 1.]), Some(-1.0));
    }

    proptest! {
        #[test]
        fn kendall_agrees_with_its_plain_twin(pairs in prop::collection::vec((0u8..9, 0u8..9), 0..60)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(x, y)| (f64::from(x), f64::from(y))).unzip();
            prop_assert_eq!(kendall(&a, &b), if a.len() < 2 { None } else { plain_kendall(&a, &b) });
            prop_assert_eq!(kendall(&a, &b), kendall(&b, &a));
        }
    }
}

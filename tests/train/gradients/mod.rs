//! The backward operators' definitions against finite differences of the forward ones, and losses and
//! optimisers against PyTorch, in f64.
//!
//! The fast paths and kernels are held to the definitions by `tests/device/ops/operators.rs`; what these tests add is
//! that the definitions are the gradients. Each takes a loss that weighs the outputs of a forward
//! definition with given numbers, so those are the gradient of the output.

mod convolutions;
mod others;

use natv2::random::stream;
use rand::RngExt;

/// Numbers in -1..1; other numbers for every `index`.
fn numbers(len: usize, index: u64) -> Vec<f64> {
    let mut random = stream(3, "tests/gradients", index, 0);
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Central differences of `loss` by every element of `values`.
fn slopes(values: &[f64], step: f64, mut loss: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut values = values.to_vec();
    (0..values.len())
        .map(|i| {
            let before = values[i];
            values[i] = before + step;
            let above = loss(&values);
            values[i] = before - step;
            let below = loss(&values);
            values[i] = before;
            (above - below) / (2.0 * step)
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Fails where an element is further off than `tolerance` of the largest.
fn assert_close(what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what}: a gradient that is zero everywhere shows nothing");
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= tolerance * largest, "{what}, element {i}: {found}, not {wanted}");
    }
}

//! Convolutions. They are linear in inputs and in weights, so that central differences are exact
//! with any step, but for rounding.

use super::{assert_close, dot, numbers, slopes};
use natv2::launch::panels::{panelled_index, panelled_len};
use natv2::ops::grad::depthwise::{self as depthwise_grad, DepthwiseWeights};
use natv2::ops::grad::pointwise::{
    self as pointwise_grad, PointwiseWeights, ScatterArgs, ScatterParams, TransposeArgs, TransposeParams,
};
use natv2::ops::grad::stem::{self as stem_grad, StemWeights};
use natv2::ops::{depthwise, pointwise, stem};

const STEP: f64 = 0.5;
const TOLERANCE: f64 = 1e-12;

fn pointwise_params(
    (images, side, stride): (u32, u32, u32),
    (cin, cout, stored): (u32, u32, u32),
) -> pointwise::Params {
    let side_out = side.div_ceil(stride);
    pointwise::Params {
        images,
        side_in: side,
        side_out,
        cin,
        cout,
        weight_cin: stored,
        stride,
        activation: 0,
    }
}

fn pointwise_forward(p: &pointwise::Params, x: &[f64], w: &[f64], gate: Option<&[f64]>) -> Vec<f64> {
    let mut y = vec![f64::NAN; p.rows() * p.cout as usize];
    let (scale, shift, residual) = (None, None, None);
    pointwise::reference::run(p, pointwise::Args { x, w, scale, shift, gate, residual, y: &mut y });
    y
}

fn input_len(p: &pointwise::Params) -> usize {
    (p.images * p.side_in * p.side_in * p.cin) as usize
}

#[test]
fn pointwise_weights() {
    for (index, (shape, channels, gated)) in [
        ((2, 3, 1), (8, 24, 8), false),
        ((3, 5, 2), (16, 8, 24), true),
        ((2, 4, 2), (8, 16, 8), false),
        ((5, 1, 1), (24, 40, 32), false),
        // More than one block of rows.
        ((1, 23, 1), (8, 8, 16), true),
    ]
    .into_iter()
    .enumerate()
    {
        let p = pointwise_params(shape, channels);
        let (cin, cout, stored) = (p.cin as usize, p.cout as usize, p.weight_cin as usize);
        let x = numbers(input_len(&p), index as u64);
        let dz = numbers(p.rows() * cout, 100 + index as u64);
        let gate = gated.then(|| numbers(p.images as usize * cin, 200 + index as u64));
        let used: Vec<usize> = (0..cout * cin).map(|i| panelled_index(stored, i / cin, i % cin)).collect();
        let mut w = vec![f64::NAN; panelled_len(cout, stored)];
        let wanted = slopes(&numbers(used.len(), 300 + index as u64), STEP, |values| {
            used.iter().zip(values).for_each(|(&at, value)| w[at] = *value);
            dot(&pointwise_forward(&p, &x, &w, gate.as_deref()), &dz)
        });
        let mut partials = vec![f64::NAN; PointwiseWeights::partials_len(&p)];
        // It is added to what is there.
        let mut dw = vec![1.0; w.len()];
        pointwise_grad::reference::weights(
            &p,
            pointwise_grad::WeightsArgs {
                x: &x,
                dz: &dz,
                gate: gate.as_deref(),
                partials: &mut partials,
                dw: &mut dw,
            },
        );
        let found: Vec<f64> = used.iter().map(|&at| dw[at] - 1.0).collect();
        assert_close(&format!("{p:?}"), &found, &wanted, TOLERANCE);
        used.iter().for_each(|&at| dw[at] = 1.0);
        assert!(dw.iter().all(|&value| value == 1.0), "{p:?}: beyond the prefix");
    }
}

/// The input's gradient: the forward operator on transposed panels, put back to the pixels that a
/// stride took, with what has already arrived added.
#[test]
fn pointwise_input() {
    for (index, (shape, channels, more_outputs)) in [
        ((2, 3, 1), (8, 24, 8), 0),
        ((2, 5, 2), (16, 8, 24), 16),
        ((3, 4, 2), (24, 16, 40), 8),
        ((4, 1, 1), (40, 24, 40), 24),
    ]
    .into_iter()
    .enumerate()
    {
        let p = pointwise_params(shape, channels);
        let (cin, cout) = (p.cin as usize, p.cout as usize);
        let stored = TransposeParams { cout: p.cout + more_outputs, cin: p.weight_cin };
        let (stored_outputs, stored_inputs) = (stored.cout as usize, stored.cin as usize);
        let w = numbers(panelled_len(stored_outputs, stored_inputs), index as u64);
        let dz = numbers(p.rows() * cout, 100 + index as u64);
        let arrived = numbers(input_len(&p), 200 + index as u64);
        let mut wanted = slopes(&numbers(input_len(&p), 300 + index as u64), STEP, |x| {
            dot(&pointwise_forward(&p, x, &w, None), &dz)
        });
        wanted.iter_mut().zip(&arrived).for_each(|(wanted, arrived)| *wanted += arrived);

        let mut t = vec![f64::NAN; panelled_len(stored_inputs, stored_outputs)];
        pointwise_grad::reference::transpose(&stored, TransposeArgs { w: &w, t: &mut t });
        let back = pointwise::Params {
            side_in: p.side_out,
            cin: p.cout,
            cout: p.cin,
            weight_cin: stored.cout,
            stride: 1,
            ..p
        };
        let small = pointwise_forward(&back, &dz, &t, None);
        assert_eq!(small.len(), p.rows() * cin);
        let scatter = ScatterParams {
            images: p.images,
            side_in: p.side_in,
            side_out: p.side_out,
            channels: p.cin,
            stride: p.stride,
            format: 0,
        };
        let mut dx = vec![f64::NAN; input_len(&p)];
        let args = ScatterArgs { x: &small, residual: Some(&arrived), y: &mut dx };
        pointwise_grad::reference::scatter(&scatter, args);
        assert_close(&format!("{p:?}"), &dx, &wanted, TOLERANCE);
    }
}

#[test]
fn depthwise_input_and_weights() {
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (images, side, channels, stored) in
                [(1, 1, 8, 8), (2, 3, 8, 16), (1, 4, 16, 16), (1, 7, 8, 8)]
            {
                let side_out = u32::div_ceil(side, stride);
                let p = depthwise::Params {
                    images,
                    side_in: side,
                    side_out,
                    channels,
                    weight_channels: stored,
                    kernel,
                    stride,
                    activation: 0,
                    format: 0,
                };
                depthwise_case(&p);
            }
        }
    }
}

fn depthwise_case(p: &depthwise::Params) {
    let (channels, stored) = (p.channels as usize, p.weight_channels as usize);
    let inputs = (p.images * p.side_in * p.side_in) as usize * channels;
    let outputs = (p.images * p.side_out * p.side_out) as usize * channels;
    let (x, dz, arrived) = (numbers(inputs, 1), numbers(outputs, 2), numbers(inputs, 3));
    let w = numbers((p.kernel * p.kernel) as usize * stored, 4);
    let loss = |x: &[f64], w: &[f64]| {
        let mut y = vec![f64::NAN; outputs];
        depthwise::reference::run(
            p,
            depthwise::Args { x, w, scale: None, shift: None, y: &mut y, pool: None },
        );
        dot(&y, &dz)
    };

    let mut wanted = slopes(&x, STEP, |x| loss(x, &w));
    wanted.iter_mut().zip(&arrived).for_each(|(wanted, arrived)| *wanted += arrived);
    let mut dx = vec![f64::NAN; inputs];
    let args = depthwise_grad::InputArgs { dz: &dz, w: &w, residual: Some(&arrived), dx: &mut dx };
    depthwise_grad::reference::input(p, args);
    assert_close(&format!("input, {p:?}"), &dx, &wanted, TOLERANCE);

    // By channels beyond the prefix the slope is zero.
    let wanted = slopes(&w, STEP, |w| loss(&x, w));
    let mut partials = vec![f64::NAN; DepthwiseWeights::partials_len(p)];
    let mut dw = vec![1.0; w.len()];
    let args = depthwise_grad::WeightsArgs { x: &x, dz: &dz, partials: &mut partials, dw: &mut dw };
    depthwise_grad::reference::weights(p, args);
    dw.iter_mut().for_each(|dw| *dw -= 1.0);
    assert_close(&format!("weights, {p:?}"), &dw, &wanted, TOLERANCE);
}

#[test]
fn stem_weights() {
    for (images, side, cout) in [(2, 1, 8), (2, 5, 8), (1, 8, 16), (1, 11, 24)] {
        let side_out = u32::div_ceil(side, 2);
        let p = stem::Params { images, side_in: side, side_out, cout, activation: 0, format: 0 };
        let x = numbers((images * side * side * 3) as usize, 1);
        let dz = numbers((images * side_out * side_out * cout) as usize, 2);
        let w = numbers(27 * cout as usize, 3);
        let wanted = slopes(&w, STEP, |w| {
            let mut y = vec![f64::NAN; dz.len()];
            stem::reference::run(&p, stem::Args { x: &x, w, scale: None, shift: None, y: &mut y });
            dot(&y, &dz)
        });
        let mut partials = vec![f64::NAN; StemWeights::partials_len(&p)];
        let mut dw = vec![1.0; w.len()];
        let args = stem_grad::WeightsArgs { x: &x, dz: &dz, partials: &mut partials, dw: &mut dw };
        stem_grad::reference::weights(&p, args);
        dw.iter_mut().for_each(|dw| *dw -= 1.0);
        assert_close(&format!("{p:?}"), &dw, &wanted, TOLERANCE);
    }
}

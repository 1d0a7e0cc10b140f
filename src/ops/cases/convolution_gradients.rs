//! Cases of the gradients of convolutions.

use super::forward::in_format;
use super::{Builder, Case, Fill, depthwise_shape, pointwise_shape, several, stem_shape};
use crate::launch::panels::panelled_len;
use crate::ops::Activation;
use crate::ops::grad::depthwise::{DepthwiseInput, DepthwiseWeights};
use crate::ops::grad::pointwise::{
    PointwiseWeights, Scatter, ScatterParams, Transpose, TransposeGroup, TransposeParams,
};
use crate::ops::grad::stem::StemWeights;
use crate::ops::halves::{Format, number};

fn pointwise_weights(
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    gated: bool,
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), cin + more);
    let params = pointwise_shape((images, side, stride), (cin, cout, more), Activation::None);
    let call = PointwiseWeights {
        params,
        x: b.input(images * side * side * cin, Fill::Values(1.0)),
        dz: b.input(images * side_out * side_out * cout, Fill::Values(1.0)),
        gate: gated.then(|| b.input(images * cin, Fill::Positive)),
        partials: b.output(PointwiseWeights::partials_len(&params)),
        dw: b.input(panelled_len(cout, stored), Fill::Panels { cout, cin, stored }),
    };
    let stride = if stride == 1 { String::new() } else { format!(" stride {stride}") };
    let prefix = if more == 0 { String::new() } else { format!(" of {stored}") };
    let gate = if gated { ", gated" } else { "" };
    b.finish(format!("{images} x {side}{stride}, {cin}{prefix} to {cout}{gate}"), call)
}

/// Matrices of so many rows and columns.
fn transposes(shapes: &[(usize, usize)]) -> Case {
    let mut b = Builder::default();
    let calls = shapes.iter().map(|&(cout, cin)| Transpose {
        params: TransposeParams { cout: cout as u32, cin: cin as u32 },
        w: b.weights(panelled_len(cout, cin), Fill::Panels { cout, cin, stored: cin }),
        t: b.output(panelled_len(cin, cout)),
    });
    let calls = calls.collect();
    b.finish(several(shapes.len(), format!("{} to {}", shapes[0].1, shapes[0].0)), TransposeGroup { calls })
}

pub(super) fn scatter(
    format: Option<Format>,
    (images, side, stride): (usize, usize, usize),
    channels: usize,
    residual: bool,
) -> Case {
    let mut b = Builder::default();
    let side_out = side.div_ceil(stride);
    let (small, large) = (images * side_out * side_out * channels, images * side * side * channels);
    let call = Scatter {
        params: ScatterParams {
            images: images as u32,
            side_in: side as u32,
            side_out: side_out as u32,
            channels: channels as u32,
            stride: stride as u32,
            format: number(format),
        },
        x: b.map(format, small, Fill::Values(1.0)),
        residual: residual.then(|| b.map(format, large, Fill::Values(1.0))),
        y: b.map_output(format, large),
    };
    let residual = if residual { ", residual" } else { "" };
    b.finish(in_format(format, format!("{images} x {side} stride {stride}, {channels}{residual}")), call)
}

pub(super) fn depthwise_both(
    format: Option<Format>,
    (images, side): (usize, usize),
    (kernel, stride): (usize, usize),
    (channels, more): (usize, usize),
    residual: bool,
) -> [Case; 2] {
    let (side_out, stored) = (side.div_ceil(stride), channels + more);
    let none = Activation::None;
    let params = depthwise_shape(format, (images, side), (kernel, stride), (channels, more), none);
    let (inputs, outputs) = (images * side * side * channels, images * side_out * side_out * channels);
    let filter = Fill::Rows { used: channels, stored };
    let mut b = Builder::default();
    let input = DepthwiseInput {
        params,
        dz: b.map(format, outputs, Fill::Values(1.0)),
        w: b.weights(kernel * kernel * stored, filter),
        residual: residual.then(|| b.map(format, inputs, Fill::Values(1.0))),
        dx: b.map_output(format, inputs),
    };
    let name = format!("{images} x {side}, {kernel}x{kernel}/{stride}, {channels} of {stored}");
    let name = in_format(format, name);
    let input = b.finish(format!("{name}{}", if residual { ", residual" } else { "" }), input);
    let mut b = Builder::default();
    let weights = DepthwiseWeights {
        params,
        x: b.map(format, inputs, Fill::Values(1.0)),
        dz: b.map(format, outputs, Fill::Values(1.0)),
        partials: b.output(DepthwiseWeights::partials_len(&params)),
        dw: b.input(kernel * kernel * stored, filter),
    };
    [input, b.finish(name, weights)]
}

pub(super) fn stem_weights(format: Option<Format>, images: usize, side: usize, cout: usize) -> Case {
    let mut b = Builder::default();
    let side_out = side.div_ceil(2);
    let params = stem_shape(format, images, side, cout, Activation::None);
    let call = StemWeights {
        params,
        x: b.input(images * side * side * 3, Fill::Values(2.0)),
        dz: b.map(format, images * side_out * side_out * cout, Fill::Values(1.0)),
        partials: b.output(StemWeights::partials_len(&params)),
        dw: b.input(27 * cout, Fill::Values(1.0)),
    };
    b.finish(in_format(format, format!("{images} x {side}, 3 to {cout}")), call)
}

pub(super) fn edges() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, channels, gated) in [
        ((1, 1, 1), (8, 8, 0), false),
        ((5, 1, 1), (104, 136, 24), false),
        ((1, 2, 1), (16, 24, 8), false),
        ((3, 2, 2), (40, 48, 0), false),
        ((3, 3, 2), (8, 40, 16), false),
        ((2, 3, 1), (72, 24, 24), true),
        ((7, 7, 1), (96, 40, 0), true),
        ((3, 7, 2), (24, 200, 8), true),
        // More than one block of rows, and more of them than are added side by side.
        ((1, 23, 1), (16, 72, 8), false),
        ((3, 28, 2), (24, 104, 8), true),
        ((2, 28, 1), (88, 72, 0), true),
        ((5, 41, 1), (8, 8, 0), false),
    ] {
        cases.push(pointwise_weights(shape, channels, gated));
    }
    for (cout, cin) in [(8, 8), (24, 40), (16, 48), (136, 72)] {
        cases.push(transposes(&[(cout, cin)]));
    }
    // More than a launch takes, of different sizes.
    let many: Vec<(usize, usize)> = (0..70).map(|i| (8 + 8 * (i % 5), 8 + 24 * (i % 3))).collect();
    cases.push(transposes(&many));
    for (shape, channels, residual) in
        [((1, 1, 2), 8, false), ((2, 5, 2), 40, true), ((3, 4, 2), 24, false), ((2, 3, 1), 16, true)]
    {
        cases.push(scatter(None, shape, channels, residual));
    }
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (map, channels, residual) in [
                ((1, 1), (152, 0), false),
                ((3, 2), (40, 8), true),
                ((2, 3), (8, 0), false),
                ((1, 7), (24, 24), true),
                ((3, 9), (72, 0), false),
                ((1, 14), (48, 48), true),
                // More blocks of images than one.
                ((70, 3), (16, 0), false),
            ] {
                cases.extend(depthwise_both(None, map, (kernel, stride), channels, residual));
            }
        }
    }
    for (images, side, cout) in [(1, 1, 8), (2, 3, 16), (3, 33, 8), (2, 47, 24), (1, 64, 40)] {
        cases.push(stem_weights(None, images, side, cout));
    }
    cases
}

/// What the blocks of the forward operators' network need, and a strided shortcut.
pub(super) fn network(images: usize, r: usize) -> Vec<Case> {
    let mut side = r.div_ceil(2);
    let mut cases = vec![stem_weights(None, images, r, 16)];
    cases.extend(depthwise_both(None, (images, side), (3, 1), (16, 0), false));
    // Input and output channels, stride, kernel, expansion and SE.
    for (cin, cout, stride, kernel, expansion, gated) in [
        (16, 24, 2, 3, 6, false),
        (24, 24, 1, 5, 4, false),
        (24, 40, 2, 5, 4, true),
        (40, 40, 1, 7, 6, true),
        (40, 80, 2, 7, 3, false),
        (80, 112, 1, 5, 6, true),
        (112, 160, 2, 7, 6, true),
        (160, 160, 1, 3, 6, true),
    ] {
        let (mid, widest) = (cin * expansion, cin * 6);
        cases.push(pointwise_weights((images, side, 1), (cin, mid, 0), false));
        cases.extend(depthwise_both(None, (images, side), (kernel, stride), (mid, widest - mid), false));
        side = side.div_ceil(stride);
        cases.push(pointwise_weights((images, side, 1), (mid, cout, widest - mid), gated));
    }
    cases.push(pointwise_weights((images, side, 1), (160, 960, 0), false));
    cases.push(pointwise_weights((images, 1, 1), (960, 1280, 0), false));
    cases.push(transposes(&[(160, 960)]));
    cases.push(scatter(None, (images, r.div_ceil(2), 2), 24, true));
    cases
}

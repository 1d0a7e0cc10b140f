//! Cases of operators on 16-bit numbers. They are apart from the others, since their results are not
//! f32 elements to compare, and rounding is in the definition.

use super::batch_norm::{apply_case, apply_group_case, many_applies, statistics_case};
use super::convolution_gradients::{depthwise_both, scatter, stem_weights};
use super::forward::{
    depthwise_case, global_pool_case, max_pool_case, squeeze_excite_case, stem_case, sum_case,
};
use super::gradients::{self, activation_cases, columns_case, input_case, sums_case};
use super::{Builder, Case, Fill, expand_depthwise, mbconv, mbconv_pass, pointwise_shape};
use crate::launch::panels::panelled_len;
use crate::ops::Activation;
use crate::ops::grad::pointwise::PointwiseWeights;
use crate::ops::grad::pointwise_half::{self as gradient, PointwiseHalfWeights};
use crate::ops::half_rows::{self, HalfRows, Job, JobParams};
use crate::ops::halves::{Format, PER_ELEMENT, elements, number};
use crate::ops::pointwise_half::{Params, PointwiseHalf, weights_len};

/// A map in the format.
const PLAIN: (bool, bool) = (false, false);

fn pointwise_case(
    format: Format,
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    // Folded batch norm with an activation; gate and residual.
    (folded, both): (Option<Activation>, bool),
    // Means as outputs; outputs in f32.
    (pooled, single): (bool, bool),
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), cin + more);
    let outputs = images * side_out * side_out * cout / PER_ELEMENT;
    let output = if single { None } else { Some(format) };
    let written = elements(output, if pooled { images } else { images * side_out * side_out } * cout);
    let halves = |size| Fill::Halves { format, size };
    let call = PointwiseHalf {
        params: Params {
            shape: pointwise_shape(
                (images, side, stride),
                (cin, cout, more),
                folded.unwrap_or(Activation::None),
            ),
            output: number(output),
            pooled: u32::from(pooled),
            format: format as u32,
        },
        x: b.input(images * side * side * cin / PER_ELEMENT, halves(1.0)),
        w: b.weights(weights_len(cout, stored), Fill::HalfRows { format, used: cin, stored }),
        scale: folded.map(|_| b.input(cout, Fill::Positive)),
        shift: folded.map(|_| b.input(cout, Fill::Values(1.0))),
        gate: both.then(|| b.input(images * cin, Fill::Positive)),
        residual: both.then(|| b.input(outputs, halves(1.0))),
        y: b.output(written),
    };
    let to = match (pooled, single) {
        (false, false) => "",
        (true, false) => ", pooled",
        (false, true) => ", to f32",
        (true, true) => ", pooled, to f32",
    };
    let around = match (folded, both) {
        (None, false) => "raw".into(),
        (None, true) => "gate and residual".into(),
        (Some(activation), false) => format!("folded, {activation:?}"),
        (Some(activation), true) => format!("folded, {activation:?}, gate and residual"),
    };
    b.finish(
        format!("{format:?} {images} x {side}/{stride}, {cin} of {stored} to {cout}, {around}{to}"),
        call,
    )
}

/// Every tile, tails of rows and channels, strides, prefixes, and what surrounds the product.
pub(super) fn products() -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let shapes = [
        ((1, 1, 1), (8, 8, 0), (None, false)),
        ((1, 1, 1), (1152, 320, 0), (Some(Linear), false)),
        ((5, 1, 1), (960, 1280, 192), (Some(HSwish), false)),
        ((1, 2, 1), (16, 24, 8), (Some(Relu), false)),
        ((3, 3, 2), (8, 40, 16), (None, false)),
        ((2, 3, 1), (72, 24, 24), (Some(Linear), true)),
        ((7, 7, 1), (96, 40, 0), (Some(HSwish), true)),
        ((3, 7, 2), (24, 136, 8), (None, true)),
        // Images of one pixel: a tile's rows have a gate each.
        ((101, 1, 1), (104, 24, 0), (Some(Relu), true)),
        // The large tiles, which take large products: thin, mid and wide.
        ((3, 112, 1), (8, 16, 8), (Some(Relu), false)),
        ((3, 112, 1), (24, 8, 0), (Some(Linear), true)),
        ((11, 113, 2), (16, 16, 0), (Some(Linear), true)),
        ((11, 56, 1), (40, 24, 0), (Some(HSwish), true)),
        ((11, 56, 1), (16, 32, 24), (None, false)),
        ((5, 56, 1), (24, 96, 24), (Some(HSwish), false)),
        ((22, 28, 1), (24, 128, 8), (Some(Linear), true)),
    ];
    // Pooled: tiles of many images and of one, images of several tiles, of either size; heads' linear layers.
    let others = [
        ((5, 2, 1), (160, 960, 0), (Some(HSwish), false), (true, false)),
        ((37, 1, 1), (24, 72, 8), (Some(Relu), false), (true, false)),
        ((70, 3, 1), (40, 136, 0), (Some(HSwish), true), (true, true)),
        ((3, 12, 1), (16, 40, 8), (Some(HSwish), false), (true, false)),
        ((2, 13, 2), (24, 64, 0), (None, false), (true, false)),
        ((190, 2, 1), (8, 520, 0), (Some(HSwish), false), (true, false)),
        ((90, 14, 1), (8, 264, 0), (Some(Linear), false), (true, false)),
        ((9, 1, 1), (320, 16, 0), (Some(Linear), false), (false, true)),
        ((3, 7, 1), (24, 200, 24), (Some(Relu), true), (false, true)),
    ];
    let shapes =
        shapes.into_iter().map(|(shape, channels, around)| (shape, channels, around, (false, false)));
    let all: Vec<_> = shapes.chain(others).collect();
    let case = |format, &(shape, channels, around, outputs): &(_, _, _, _)| {
        pointwise_case(format, shape, channels, around, outputs)
    };
    Format::ALL.into_iter().flat_map(|format| all.iter().map(move |shape| case(format, shape))).collect()
}

fn weights_case(
    format: Format,
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    gated: bool,
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), cin + more);
    let shape = pointwise_shape((images, side, stride), (cin, cout, more), Activation::None);
    let halves = Fill::Halves { format, size: 1.0 };
    let call = PointwiseHalfWeights {
        params: gradient::Params { shape, format: format as u32 },
        x: b.input(images * side * side * cin / PER_ELEMENT, halves),
        dz: b.input(images * side_out * side_out * cout / PER_ELEMENT, halves),
        gate: gated.then(|| b.input(images * cin, Fill::Positive)),
        partials: b.output(PointwiseWeights::partials_len(&shape)),
        dw: b.input(panelled_len(cout, stored), Fill::Panels { cout, cin, stored }),
    };
    let gate = if gated { ", gated" } else { "" };
    b.finish(format!("{format:?} {images} x {side}/{stride}, {cin} of {stored} to {cout}{gate}"), call)
}

/// Both tiles, tails of rows and channels, strides, prefixes, one block of rows and several.
pub(super) fn weights() -> Vec<Case> {
    let shapes = [
        ((1, 1, 1), (8, 8, 0), false),
        ((5, 1, 1), (104, 136, 24), false),
        ((1, 2, 1), (16, 24, 8), false),
        ((3, 3, 2), (8, 40, 16), false),
        ((2, 3, 1), (72, 24, 24), true),
        ((3, 7, 2), (24, 200, 8), true),
        ((2, 16, 1), (40, 16, 0), true),
        // More than one block of rows, and more of them than are added side by side.
        ((1, 23, 1), (16, 72, 8), false),
        ((3, 28, 2), (24, 104, 8), true),
        ((2, 28, 1), (88, 72, 0), true),
        ((5, 41, 1), (8, 8, 0), false),
        // Wide tiles, which take many blocks, with warps that have nothing to do and without.
        ((33, 28, 1), (16, 264, 0), false),
        ((24, 27, 1), (136, 96, 8), true),
    ];
    let all = |format| shapes.map(|(shape, channels, gated)| weights_case(format, shape, channels, gated));
    Format::ALL.into_iter().flat_map(all).collect()
}

fn rows_case(format: Format, matrices: &[(usize, usize)], transposed: bool) -> Case {
    let mut b = Builder::default();
    let mut job = |&(cout, cin): &(usize, usize)| Job {
        params: JobParams { cout: cout as u32, cin: cin as u32 },
        w: b.input(panelled_len(cout, cin), Fill::Panels { cout, cin, stored: cin }),
        rows: b.output(weights_len(cout, cin)),
        transposed: transposed.then(|| b.output(weights_len(cin, cout))),
    };
    let jobs = matrices.iter().map(&mut job).collect();
    let both = if transposed { ", transposed too" } else { "" };
    let name = format!("{format:?} {} matrices from {:?}{both}", matrices.len(), matrices[0]);
    b.finish(name, HalfRows { params: half_rows::Params { format }, jobs })
}

/// Tails of panels and of slices, small matrices beside a large one, and more than a launch takes.
pub(super) fn rows() -> Vec<Case> {
    let many: Vec<(usize, usize)> = (0..150).map(|i| (8 + i % 5 * 8, 8 + i % 3 * 16)).collect();
    let lists = [vec![(8, 8)], vec![(24, 40), (136, 72), (8, 200), (160, 960)], vec![(72, 136)], many];
    let all = |format| {
        let case =
            move |transposed| move |matrices: &Vec<(usize, usize)>| rows_case(format, matrices, transposed);
        [false, true].map(|transposed| lists.iter().map(case(transposed)).collect::<Vec<_>>()).concat()
    };
    Format::ALL.into_iter().flat_map(all).collect()
}

/// The operators that have f32 maps too, in a format or in f32: the same shapes in the same order, and
/// what one rounds to its format is what the other has.
pub(super) fn others(format: Option<Format>) -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let mut cases = Vec::new();
    for (images, side, cout, folded) in [(1, 32, 16, true), (3, 33, 8, false), (2, 47, 24, true)] {
        cases.push(stem_case(format, images, side, cout, folded));
    }
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (map, channels, folded) in [
                ((1, 1), (1152, 0), Some(HSwish)),
                ((2, 3), (8, 0), None),
                ((1, 7), (24, 24), Some(HSwish)),
                ((3, 9), (72, 0), Some(Relu)),
                ((2, 19), (40, 8), Some(Linear)),
                // Many small images to a block, the last block not full; maps of one strip and of a few.
                ((37, 2), (136, 0), Some(HSwish)),
                ((5, 4), (960, 192), Some(Relu)),
            ] {
                let shape = (kernel, stride);
                cases.push(depthwise_case(format, map, shape, channels, folded, folded.is_some()));
            }
        }
    }
    for (map, channels, hidden, more) in
        [((1, 1), 8, 8, 0), ((3, 2), 1152, 288, 0), ((2, 3), 72, 24, 24), ((5, 7), 120, 32, 8)]
    {
        cases.push(squeeze_excite_case(format, map, channels, hidden, more));
    }
    for (images, side, channels) in [(1, 1, 8), (3, 2, 1152), (2, 3, 40), (5, 7, 960), (1, 14, 24)] {
        cases.push(global_pool_case(format, images, side, channels));
        cases.push(max_pool_case(format, images, side, channels));
    }
    for (len, terms) in [(8, 2), (1032, 3), (4096, 4)] {
        cases.push(sum_case(format, len, terms));
    }
    for (rows, channels) in [(2, 1152), (49, 40), (256, 16), (257, 24), (1500, 72), (5000, 8)] {
        cases.push(statistics_case(format, (1, rows, channels), false, rows % 2 == 1));
    }
    for (batches, rows, channels) in [(3, 4, 40), (2, 8192, 8), (2, 8193, 40)] {
        cases.push(statistics_case(format, (batches, rows, channels), false, true));
    }
    for (shape, activation, residual, in_place) in [
        ((1, 1, 8), Relu, false, false),
        ((3, 49, 40), HSwish, true, false),
        ((1, 5, 1152), Linear, false, true),
        ((2, 392, 24), HSwish, true, true),
    ] {
        cases.push(apply_case(format, shape, activation, residual, in_place));
    }
    cases.push(apply_group_case(&[format], &many_applies()));
    cases.extend(backward(format));
    cases
}

/// What the layers of the forward operators' network are with maps in a format, forward and backward.
/// Whole blocks are there where any card has the shared memory for one.
pub(super) fn network(format: Format, images: usize, r: usize) -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let some = Some(format);
    let widest = r.div_ceil(2);
    let mut side = widest;
    let mut cases = vec![
        stem_case(some, images, r, 16, true),
        depthwise_case(some, (images, side), (3, 1), (16, 0), Some(Relu), false),
        stem_weights(some, images, r, 16),
    ];
    // Input and output channels, stride, kernel, expansion, SE and activation.
    for (cin, cout, stride, kernel, expansion, squeeze, activation) in [
        (16, 24, 2, 3, 6, false, Relu),
        (24, 40, 2, 5, 4, true, Relu),
        (40, 40, 1, 7, 6, true, Relu),
        (40, 80, 2, 7, 3, false, HSwish),
        (80, 112, 1, 5, 6, true, HSwish),
        (160, 160, 1, 3, 6, true, HSwish),
    ] {
        let (mid, widest) = (cin * expansion, cin * 6);
        let filter = (kernel, stride);
        cases.push(pointwise_case(
            format,
            (images, side, 1),
            (cin, mid, 0),
            (Some(activation), false),
            PLAIN,
        ));
        let channels = (mid, widest - mid);
        cases.push(depthwise_case(some, (images, side), filter, channels, Some(activation), squeeze));
        cases.extend(depthwise_both(some, (images, side), filter, channels, false));
        let hidden = if squeeze { (mid / 4usize).next_multiple_of(8) } else { 0 };
        cases.extend(mbconv::layer(format, (images, side), filter, (cin, mid, cout), hidden, activation));
        let (of, to) = ((images, side), (cin, mid));
        cases.extend(expand_depthwise::layer(format, of, filter, to, squeeze, activation));
        cases.extend(mbconv_pass::layer(
            format,
            (images, side),
            filter,
            (cin, mid, cout),
            hidden,
            activation,
        ));
        side = side.div_ceil(stride);
        if squeeze {
            cases.push(squeeze_excite_case(some, (images, side), mid, hidden, 0));
            cases.push(gradients::squeeze_excite_case(some, (images, side), (mid, hidden), 0));
        }
        cases.push(pointwise_case(
            format,
            (images, side, 1),
            (mid, cout, widest - mid),
            (Some(Linear), squeeze),
            PLAIN,
        ));
    }
    // A head: its map's means, and logits in f32.
    cases.push(pointwise_case(
        format,
        (images, side, 1),
        (160, 960, 0),
        (Some(HSwish), false),
        (true, false),
    ));
    cases.push(pointwise_case(format, (images, 1, 1), (1280, 200, 0), (None, false), (false, true)));
    let map = (images * widest * widest, 96);
    let batch = (1, map.0, map.1);
    cases.extend([
        global_pool_case(some, images, side, 960),
        gradients::global_pool_case(some, images, side, 960),
        max_pool_case(some, images, widest, 16),
        gradients::max_pool_case(some, (images, widest), 16, true),
        sum_case(some, images * widest * widest * 24, 3),
        statistics_case(some, batch, false, true),
        apply_case(some, batch, Relu, false, true),
        apply_group_case(&[some], &[(batch, Relu, false, false); 3]),
        sums_case(some, map, 0, Relu),
        input_case(some, map, Relu, false),
        columns_case(some, map.0, map.1, 0),
    ]);
    cases.extend(activation_cases(some, images * 1280, HSwish, true));
    cases
}

/// The gradients among them. Inputs of activations are steps, so that both are on the same side of its
/// corners; those of ReLU would be exact outputs.
fn backward(format: Option<Format>) -> Vec<Case> {
    use Activation::{HSigmoid, HSwish, None as Linear, Relu};
    let mut cases = Vec::new();
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (map, channels, residual) in [
                ((1, 1), (152, 0), false),
                ((3, 2), (40, 8), true),
                ((1, 7), (24, 24), true),
                ((3, 9), (72, 0), false),
                // More blocks of images than one.
                ((70, 3), (16, 0), false),
            ] {
                cases.extend(depthwise_both(format, map, (kernel, stride), channels, residual));
            }
        }
    }
    for (images, side, cout) in [(2, 3, 16), (3, 33, 8), (2, 47, 24), (1, 64, 40)] {
        cases.push(stem_weights(format, images, side, cout));
    }
    for (shape, more, activation) in [
        ((1, 8), 0, Relu),
        ((2, 1152), 8, HSwish),
        ((49, 40), 0, Linear),
        ((257, 24), 0, HSigmoid),
        ((1500, 72), 8, Relu),
    ] {
        cases.push(sums_case(format, shape, more, activation));
        cases.push(input_case(format, shape, activation, more != 0));
    }
    for (map, channels, more) in
        [((1, 14), (16, 8), 0), ((3, 2), (240, 64), 0), ((4, 3), (72, 24), 24), ((2, 17), (40, 16), 16)]
    {
        cases.push(gradients::squeeze_excite_case(format, map, channels, more));
    }
    for (images, side, channels) in [(1, 1, 8), (3, 2, 1152), (2, 3, 40), (5, 7, 96), (1, 14, 24)] {
        cases.push(gradients::global_pool_case(format, images, side, channels));
        cases.push(gradients::max_pool_case(format, (images, side), channels, images > 2));
    }
    for (shape, channels, residual) in
        [((1, 1, 2), 8, false), ((2, 5, 2), 40, true), ((3, 4, 2), 24, false), ((2, 3, 1), 16, true)]
    {
        cases.push(scatter(format, shape, channels, residual));
    }
    for (len, activation, mask) in [(24, HSwish, false), (1048, HSigmoid, true), (16400, HSwish, true)] {
        cases.extend(activation_cases(format, len, activation, mask));
    }
    for (rows, columns, more) in [(1, 8, 0), (13, 104, 8), (256, 16, 0), (700, 24, 24)] {
        cases.push(columns_case(format, rows, columns, more));
    }
    cases
}

//! Cases of the forward operators but for batch norm.

use super::{Builder, Case, Fill, several};
use super::{depthwise_shape, pointwise_shape, pool_shape, squeeze_excite_shape, stem_shape};
use crate::launch::panels::panelled_len;
use crate::ops::branches::{self, Branch};
use crate::ops::halves::{Format, number};
use crate::ops::{
    Activation, PANEL, Slot, augment, depthwise, kernel_transform, pointwise, pool, preprocess, score,
    squeeze_excite, stem, sum,
};

/// The batch norm of a convolution, if `folded`.
fn scale_and_shift(b: &mut Builder, channels: usize, folded: bool) -> (Option<Slot>, Option<Slot>) {
    let mut one = |fill| folded.then(|| b.input(channels, fill));
    (one(Fill::Positive), one(Fill::Values(1.0)))
}

/// The name of a case in a format.
pub(super) fn in_format(format: Option<Format>, name: String) -> String {
    match format {
        Some(format) => format!("{format:?} {name}"),
        None => name,
    }
}

fn described(activation: Activation, folded: bool) -> String {
    if folded { format!(", folded, {activation:?}") } else { ", raw".into() }
}

pub(super) fn stem_case(
    format: Option<Format>,
    images: usize,
    side: usize,
    cout: usize,
    folded: bool,
) -> Case {
    let mut b = Builder::default();
    let (side_out, activation) =
        (side.div_ceil(2), if folded { Activation::HSwish } else { Activation::None });
    let (scale, shift) = scale_and_shift(&mut b, cout, folded);
    let call = stem::Stem {
        params: stem_shape(format, images, side, cout, activation),
        x: b.input(images * side * side * 3, Fill::Values(2.0)),
        w: b.weights(27 * cout, Fill::Values(0.3)),
        scale,
        shift,
        y: b.map_output(format, images * side_out * side_out * cout),
    };
    let name = format!("{images} x {side}, 3 to {cout}{}", described(activation, folded));
    b.finish(in_format(format, name), call)
}

/// What surrounds the product of a pointwise case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing.
    Raw,
    /// Folded batch norm and activation.
    Folded(Activation),
    /// A bias alone.
    Bias,
    /// Folded batch norm, gate and residual, as at the end of a block with SE.
    GateAndResidual,
}

fn pointwise_case(
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    around: Around,
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), cin + more);
    let both = around == Around::GateAndResidual;
    let (activation, folded) = match around {
        Around::Folded(activation) => (activation, true),
        _ => (Activation::None, both),
    };
    let (scale, mut shift) = scale_and_shift(&mut b, cout, folded);
    if around == Around::Bias {
        shift = Some(b.weights(cout, Fill::Values(1.0)));
    }
    let outputs = images * side_out * side_out * cout;
    let call = pointwise::Pointwise {
        params: pointwise_shape((images, side, stride), (cin, cout, more), activation),
        x: b.input(images * side * side * cin, Fill::Values(1.0)),
        w: b.weights(panelled_len(cout, stored), Fill::Panels { cout, cin, stored }),
        scale,
        shift,
        gate: both.then(|| b.input(images * cin, Fill::Positive)),
        residual: both.then(|| b.input(outputs, Fill::Values(1.0))),
        y: b.output(outputs),
    };
    let stride = if stride == 1 { String::new() } else { format!(" stride {stride}") };
    let prefix = if more == 0 { String::new() } else { format!(" of {stored}") };
    b.finish(format!("{images} x {side}{stride}, {cin}{prefix} to {cout}, {around:?}"), call)
}

/// Which branches of a layer run; a transform branch may be without weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    expand: bool,
    pointwise: bool,
    transform: bool,
    weights: bool,
}

/// The branches of a mask as architectures have it; without weights where channels do not change.
fn running(mask: u8, cin: usize, cout: usize) -> Running {
    let bit = |bit: u8| mask >> bit & 1 == 1;
    Running { expand: bit(2), pointwise: bit(1), transform: bit(0), weights: cin != cout }
}

fn branches_case(
    (images, side, stride): (usize, usize, usize),
    (cin, mid, cout): (usize, usize, usize),
    mask: u8,
    folded: Option<Activation>,
) -> Case {
    let mut b = Builder::default();
    let side_out = side.div_ceil(stride);
    let run = running(mask, cin, cout);
    let (inputs, outputs) = (images * side * side, images * side_out * side_out * cout);
    let shortcut = folded.is_some() && run.expand && stride == 1 && cin == cout;
    let x = b.input(inputs * cin, Fill::Values(1.0));
    let branch = |b: &mut Builder, weights: bool, outputs: usize, own: Option<usize>| {
        let panels = Fill::Panels { cout: outputs, cin, stored: cin };
        let w = weights.then(|| b.weights(panelled_len(outputs, cin), panels));
        let (scale, shift) = scale_and_shift(b, outputs, folded.is_some());
        Branch { w, scale, shift, y: own.map(|len| b.output(len)) }
    };
    let own = folded.is_none().then_some(outputs);
    let expand = run.expand.then(|| branch(&mut b, true, mid, Some(inputs * mid)));
    let pointwise = run.pointwise.then(|| branch(&mut b, true, cout, own));
    let transform = run.transform.then(|| {
        let mut raw = branch(&mut b, run.weights, cout, own);
        // The bias of the convolution.
        raw.shift = raw.shift.or_else(|| raw.w.map(|_| b.weights(cout, Fill::Values(1.0))));
        raw
    });
    let call = branches::Branches {
        params: branches::Params {
            images: images as u32,
            side_in: side as u32,
            side_out: side_out as u32,
            cin: cin as u32,
            mid: mid as u32,
            cout: cout as u32,
            stride: stride as u32,
            activation: folded.unwrap_or(Activation::None) as u32,
            shortcut: u32::from(shortcut),
        },
        x,
        expand,
        pointwise,
        transform,
        sum: folded.map(|_| b.output(outputs)),
    };
    let activation = folded.map_or("raw".into(), |activation| format!("folded, {activation:?}"));
    b.finish(
        format!("{images} x {side}/{stride}, {cin} to {mid} and {cout}, mask {mask}, {activation}"),
        call,
    )
}

pub(super) fn depthwise_case(
    format: Option<Format>,
    (images, side): (usize, usize),
    (kernel, stride): (usize, usize),
    (channels, more): (usize, usize),
    folded: Option<Activation>,
    pooled: bool,
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), channels + more);
    let activation = folded.unwrap_or(Activation::None);
    let (scale, shift) = scale_and_shift(&mut b, channels, folded.is_some());
    let call = depthwise::Depthwise {
        params: depthwise_shape(format, (images, side), (kernel, stride), (channels, more), activation),
        x: b.map(format, images * side * side * channels, Fill::Values(1.0)),
        w: b.weights(kernel * kernel * stored, Fill::Rows { used: channels, stored }),
        scale,
        shift,
        y: b.map_output(format, images * side_out * side_out * channels),
        pool: pooled.then(|| b.output(images * channels)),
    };
    let means = if pooled { ", means" } else { "" };
    let name = format!("{images} x {side}, {kernel}x{kernel}/{stride}, {channels} of {stored}");
    b.finish(in_format(format, name + &described(activation, folded.is_some()) + means), call)
}

pub(super) fn squeeze_excite_case(
    format: Option<Format>,
    (images, side): (usize, usize),
    channels: usize,
    hidden: usize,
    more: usize,
) -> Case {
    let mut b = Builder::default();
    let (stored_channels, stored_hidden) = (channels + more, hidden + more);
    let call = squeeze_excite::SqueezeExcite {
        params: squeeze_excite_shape(format, (images, side), (channels, hidden), more),
        x: b.map(format, images * side * side * channels, Fill::Values(2.0)),
        reduce: b.weights(
            panelled_len(hidden, stored_channels),
            Fill::Panels { cout: hidden, cin: channels, stored: stored_channels },
        ),
        reduce_bias: b.weights(hidden, Fill::Values(1.0)),
        expand: b.weights(
            panelled_len(channels, stored_hidden),
            Fill::Panels { cout: channels, cin: hidden, stored: stored_hidden },
        ),
        expand_bias: b.weights(channels, Fill::Values(2.0)),
        gate: b.output(images * channels),
    };
    let name = format!("{images} x {side}, {channels} by {hidden}, stored {more} more");
    b.finish(in_format(format, name), call)
}

fn pool_operands(
    format: Option<Format>,
    (images, side): (usize, usize),
    side_out: usize,
    channels: usize,
) -> (Builder, pool::Params, Slot, usize) {
    let mut b = Builder::default();
    let params = pool_shape(format, (images, side, side_out), channels);
    let x = b.map(format, images * side * side * channels, Fill::Values(1.0));
    (b, params, x, images * side_out * side_out * channels)
}

pub(super) fn global_pool_case(format: Option<Format>, images: usize, side: usize, channels: usize) -> Case {
    let (mut b, params, x, outputs) = pool_operands(format, (images, side), 1, channels);
    let y = b.output(outputs);
    let name = format!("{images} x {side}, {channels}");
    b.finish(in_format(format, name), pool::GlobalPool { params, x, y })
}

pub(super) fn max_pool_case(format: Option<Format>, images: usize, side: usize, channels: usize) -> Case {
    let (mut b, params, x, outputs) = pool_operands(format, (images, side), side.div_ceil(2), channels);
    let y = b.map_output(format, outputs);
    let name = format!("{images} x {side}, {channels}");
    b.finish(in_format(format, name), pool::MaxPool { params, x, y })
}

pub(super) fn sum_case(format: Option<Format>, len: usize, terms: usize) -> Case {
    let mut b = Builder::default();
    let x = (0..terms).map(|_| b.map(format, len, Fill::Values(1.0))).collect();
    let params = sum::Params { len: len as u32, terms: terms as u32, format: number(format) };
    let y = b.map_output(format, len);
    b.finish(in_format(format, format!("{terms} of {len}")), sum::Sum { params, x, y })
}

/// Filters of a size, each of so many channels.
fn kernel_transform_cases(from: usize, channels: &[usize]) -> Case {
    let mut b = Builder::default();
    let to = from - 2;
    // The filter to make is written, so all three lie in the arena, as when an engine is made.
    let calls = channels.iter().map(|&channels| kernel_transform::KernelTransform {
        params: kernel_transform::Params { channels: channels as u32, from: from as u32, to: to as u32 },
        x: b.input(from * from * channels, Fill::Values(1.0)),
        matrix: b.input(to.pow(4), Fill::Values(0.3)),
        y: b.output(to * to * channels),
    });
    let calls = calls.collect();
    let name = several(channels.len(), format!("{from} to {to}, {}", channels[0]));
    b.finish(name, kernel_transform::KernelTransformGroup { calls })
}

fn score_case(images: usize, labelled: usize, classes: usize) -> Case {
    let mut b = Builder::default();
    let stride = classes.next_multiple_of(PANEL / 2) + 8;
    let call = score::Score {
        params: score::Params {
            images: images as u32,
            classes: classes as u32,
            stride: stride as u32,
            labelled: labelled as u32,
        },
        logits: b.input(images * stride, Fill::Rows { used: classes, stored: stride }),
        labels: b.input(labelled, Fill::Whole(classes as u32)),
        out: b.output(2 * images),
    };
    b.finish(format!("{images} x {classes}, {labelled} labels"), call)
}

fn preprocess_case(images: usize, side: usize, r: usize, indices: bool, pad: Option<usize>) -> Case {
    let mut b = Builder::default();
    let stored = images + 3;
    let call = preprocess::Preprocess {
        params: preprocess::Params {
            images: images as u32,
            side_in: side as u32,
            side_out: r as u32,
            first: 2,
            scale: 255.0,
            mean: [0.4914, 0.4822, 0.4465],
            std: [0.247, 0.2435, 0.2616],
        },
        x: b.input(stored * side * side, Fill::Whole(1 << 24)),
        indices: indices.then(|| b.input(images, Fill::Whole(stored as u32))),
        windows: pad.map(|pad| b.input(images * preprocess::WINDOW, Fill::Windows { side, pad })),
        y: b.output(images * r * r * 3),
    };
    let windows = pad.map_or(String::new(), |pad| format!(", windows {pad} out"));
    b.finish(format!("{images} x {side} to {r}{}{windows}", if indices { ", chosen" } else { "" }), call)
}

fn augment_case(images: usize, side: usize) -> Case {
    let mut b = Builder::default();
    let stored = images + 3;
    let call = augment::Augment {
        params: augment::Params { images: images as u32, side: side as u32 },
        x: b.input(stored * side * side, Fill::Whole(1 << 24)),
        indices: b.input(images, Fill::Whole(stored as u32)),
        operations: b.input(images * augment::OPERATIONS * augment::OPERATION, Fill::Operations(side)),
        scratch: b.output(images * side * side),
        y: b.output(images * side * side),
    };
    b.finish(format!("{images} x {side}"), call)
}

/// Shapes at the edges: every stride, sides 1 to 28, 8 to 1152 channels, prefixes of larger stored
/// weights, one image and odd numbers of them, and shapes that every tile of every kernel takes.
pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSigmoid, HSwish, None as Linear, Relu};
    let mut cases = Vec::new();
    for (images, side, cout, folded) in
        [(1, 32, 16, true), (3, 33, 8, false), (2, 47, 24, true), (1, 64, 40, true)]
    {
        cases.push(stem_case(None, images, side, cout, folded));
    }
    for (shape, channels, around) in [
        ((1, 1, 1), (8, 8, 0), Around::Raw),
        ((1, 1, 1), (1152, 1152, 0), Around::Bias),
        ((5, 1, 1), (960, 1280, 192), Around::Folded(HSwish)),
        ((1, 2, 1), (16, 24, 8), Around::Folded(Relu)),
        ((3, 2, 2), (40, 48, 0), Around::Folded(Relu)),
        ((3, 3, 2), (8, 40, 16), Around::Raw),
        ((2, 3, 1), (72, 24, 24), Around::GateAndResidual),
        ((7, 7, 1), (96, 40, 0), Around::GateAndResidual),
        ((3, 7, 2), (24, 136, 8), Around::Folded(HSigmoid)),
        ((5, 14, 1), (40, 16, 0), Around::Folded(Linear)),
        ((3, 28, 1), (16, 72, 8), Around::Folded(HSwish)),
        ((2, 28, 2), (24, 8, 8), Around::Bias),
        ((101, 1, 1), (104, 24, 0), Around::Raw),
        // The large tiles, which take large products.
        ((3, 112, 1), (8, 16, 8), Around::Folded(Relu)),
        ((3, 112, 1), (24, 8, 0), Around::GateAndResidual),
        ((5, 113, 2), (16, 16, 0), Around::GateAndResidual),
        ((5, 56, 1), (24, 96, 24), Around::Folded(HSwish)),
        ((11, 56, 1), (40, 24, 0), Around::GateAndResidual),
        ((5, 56, 1), (16, 200, 0), Around::Folded(Relu)),
        ((45, 14, 1), (72, 264, 8), Around::GateAndResidual),
    ] {
        cases.push(pointwise_case(shape, channels, around));
    }
    for (shape, channels, mask, folded) in [
        ((1, 1, 1), (8, 24, 8), 7, Some(Relu)),
        ((3, 7, 1), (24, 72, 24), 7, Some(HSwish)),
        ((2, 5, 1), (40, 120, 40), 6, Some(Relu)),
        ((5, 4, 1), (16, 96, 16), 5, Some(HSwish)),
        ((3, 3, 1), (80, 240, 112), 7, Some(HSwish)),
        ((3, 3, 1), (80, 240, 112), 3, Some(HSwish)),
        ((7, 3, 1), (24, 72, 24), 3, Some(Relu)),
        ((2, 9, 1), (24, 96, 24), 6, None),
        ((2, 9, 1), (24, 96, 40), 7, None),
        ((1, 1, 2), (8, 24, 16), 7, Some(Relu)),
        ((3, 2, 2), (112, 672, 160), 7, Some(HSwish)),
        ((2, 9, 2), (24, 72, 40), 7, Some(Relu)),
        ((3, 16, 2), (16, 64, 24), 5, Some(Relu)),
        ((2, 33, 2), (16, 48, 16), 7, Some(HSwish)),
        ((2, 33, 2), (16, 48, 16), 3, Some(HSwish)),
        ((5, 7, 2), (24, 72, 40), 6, Some(Relu)),
        ((5, 7, 2), (24, 72, 40), 7, None),
        ((2, 13, 2), (16, 48, 16), 5, None),
        ((1, 48, 2), (16, 48, 24), 3, None),
        ((65, 16, 1), (16, 48, 16), 7, Some(Relu)),
        ((65, 32, 2), (8, 16, 16), 7, Some(Relu)),
    ] {
        cases.push(branches_case(shape, channels, mask, folded));
    }
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (map, channels, folded) in [
                ((1, 1), (1152, 0), Some(HSwish)),
                ((3, 2), (40, 8), Some(Relu)),
                ((2, 3), (8, 0), None),
                ((1, 7), (24, 24), Some(HSwish)),
                ((5, 9), (72, 0), Some(Relu)),
                ((1, 14), (96, 48), None),
                ((3, 28), (16, 8), Some(Linear)),
            ] {
                cases.push(depthwise_case(None, map, (kernel, stride), channels, folded, folded.is_some()));
            }
        }
    }
    for (map, channels, hidden, more) in [
        ((1, 1), 8, 8, 0),
        ((3, 2), 1152, 288, 0),
        ((2, 3), 72, 24, 24),
        ((5, 7), 120, 32, 8),
        ((1, 14), 16, 8, 0),
        ((2, 28), 40, 16, 16),
    ] {
        cases.push(squeeze_excite_case(None, map, channels, hidden, more));
    }
    for (images, side, channels) in
        [(1, 1, 8), (3, 2, 1152), (2, 3, 40), (5, 7, 960), (1, 14, 24), (1, 28, 16)]
    {
        cases.push(global_pool_case(None, images, side, channels));
        cases.push(max_pool_case(None, images, side, channels));
    }
    cases.extend([sum_case(None, 8, 2), sum_case(None, 1032, 3), sum_case(None, 4096, 4)]);
    for from in [5, 7] {
        cases.extend(
            [&[8][..], &[1152], &[40, 8, 168]].map(|channels| kernel_transform_cases(from, channels)),
        );
    }
    cases.extend([score_case(1, 1, 2), score_case(5, 5, 10), score_case(21, 7, 200), score_case(3, 3, 1000)]);
    for (images, side, r, indices) in
        [(1, 8, 32, false), (3, 32, 48, true), (2, 64, 40, false), (1, 7, 33, true)]
    {
        cases.push(preprocess_case(images, side, r, indices, None));
    }
    for (images, side, r, indices, pad) in
        [(5, 8, 32, true, 1), (7, 32, 48, false, 4), (3, 64, 40, true, 0), (4, 1, 33, true, 1)]
    {
        cases.push(preprocess_case(images, side, r, indices, Some(pad)));
    }
    cases.extend([augment_case(38, 16), augment_case(19, 33), augment_case(3, 1), augment_case(5, 64)]);
    cases
}

/// The layers of a sub-network of width 1 on `images` images of `r` x `r` pixels: in each stage a
/// strided block and one that is not, expansions 3 to 6, kernels 3 to 7, the head, and what
/// recalibration adds at the widest maps.
pub(super) fn network(images: usize, r: usize) -> Vec<Case> {
    use Activation::{HSwish, Relu};
    let mut cases = Vec::new();
    let mut side = r.div_ceil(2);
    cases.push(stem_case(None, images, r, 16, true));
    cases.push(depthwise_case(None, (images, side), (3, 1), (16, 0), Some(Relu), false));
    // Input and output channels, stride, kernel, expansion, SE and activation.
    let stages = [
        (16, 24, 2, 3, 6, false, Relu),
        (24, 24, 1, 5, 4, false, Relu),
        (24, 40, 2, 5, 4, true, Relu),
        (40, 40, 1, 7, 6, true, Relu),
        (40, 80, 2, 7, 3, false, HSwish),
        (80, 80, 1, 3, 6, false, HSwish),
        (80, 112, 1, 5, 6, true, HSwish),
        (112, 160, 2, 7, 6, true, HSwish),
        (160, 160, 1, 3, 6, true, HSwish),
    ];
    for (cin, cout, stride, kernel, expansion, squeeze, activation) in stages {
        let (mid, widest) = (cin * expansion, cin * 6);
        cases.push(pointwise_case((images, side, 1), (cin, mid, 0), Around::Folded(activation)));
        cases.push(branches_case((images, side, stride), (cin, mid, cout), 7, Some(activation)));
        let depthwise = depthwise_case(
            None,
            (images, side),
            (kernel, stride),
            (mid, widest - mid),
            Some(activation),
            squeeze,
        );
        cases.push(depthwise);
        side = side.div_ceil(stride);
        if squeeze {
            cases.push(squeeze_excite_case(None, (images, side), mid, (mid / 4).next_multiple_of(8), 0));
        }
        let around = if squeeze { Around::GateAndResidual } else { Around::Folded(Activation::None) };
        cases.push(pointwise_case((images, side, 1), (mid, cout, widest - mid), around));
    }
    cases.push(pointwise_case((images, side, 1), (160, 960, 0), Around::Folded(HSwish)));
    cases.push(global_pool_case(None, images, side, 960));
    cases.push(pointwise_case((images, 1, 1), (960, 1280, 0), Around::Folded(HSwish)));
    cases.push(pointwise_case((images, 1, 1), (1280, 200, 0), Around::Bias));
    cases.push(score_case(images, images, 200));
    let widest = r.div_ceil(2);
    cases.push(max_pool_case(None, images, widest, 16));
    cases.push(sum_case(None, images * widest * widest * 24, 3));
    cases.push(kernel_transform_cases(7, &[960]));
    cases.push(preprocess_case(images, 64, r, true, Some(0)));
    cases.push(augment_case(images, 64));
    cases
}

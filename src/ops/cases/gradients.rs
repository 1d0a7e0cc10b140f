//! Gradients of batch norm, squeeze-and-excitation, pools and activations, losses and updates.
//!
//! Pre-activations are exact in f32, so that each device is on the same side of a corner.

use super::forward::in_format;
use super::{Builder, Case, Fill, pool_shape, several, squeeze_excite_shape};
use crate::launch::panels::panelled_len;
use crate::ops::grad::activation::{self, Activate, ActivateGrad, ColumnSum, ColumnsParams};
use crate::ops::grad::batch_norm::{self, BnGradInput, BnGradSums, BnRunning, BnRunningGroup, RunningParams};
use crate::ops::grad::kernel_transform::{KernelTransformGrad, KernelTransformGradGroup};
use crate::ops::grad::pool::{GlobalPoolGrad, MaxPoolGrad};
use crate::ops::grad::squeeze_excite::SqueezeExciteGrad;
use crate::ops::halves::{Format, number};
use crate::ops::loss::{self, Loss, SoftTargets, TargetsParams};
use crate::ops::update::{self, AdamW, AdamWSegment, ClipFactor, Segment, Sgd, SgdSegment, SumOfSquares};
use crate::ops::{Activation, Slot, kernel_transform};

/// Inputs and the shifts of a batch norm.
const FINE: Fill = Fill::Steps { step: 0.125, reach: 3.0 };
/// Scales of a batch norm.
const COARSE: Fill = Fill::Steps { step: 0.5, reach: 2.0 };

/// The first `used` elements of a stored tensor that has some more.
fn prefix(used: usize, more: usize) -> (usize, Fill) {
    (used + more, Fill::Rows { used, stored: used + more })
}

fn batch_norm_params(
    format: Option<Format>,
    (rows, channels): (usize, usize),
    activation: Activation,
) -> batch_norm::Params {
    batch_norm::Params {
        rows: rows as u32,
        channels: channels as u32,
        activation: activation as u32,
        epsilon: 1e-5,
        format: number(format),
    }
}

pub(super) fn sums_case(
    format: Option<Format>,
    (rows, channels): (usize, usize),
    more: usize,
    activation: Activation,
) -> Case {
    let mut b = Builder::default();
    let (stored, fill) = prefix(channels, more);
    let call = BnGradSums {
        params: batch_norm_params(format, (rows, channels), activation),
        z: b.map(format, rows * channels, FINE),
        dy: b.map(format, rows * channels, Fill::Values(1.0)),
        batch: b.input(2 * channels, Fill::Positive),
        scale: b.input(channels, COARSE),
        shift: b.input(channels, FINE),
        partials: b.output(BnGradSums::partials_len(rows, channels)),
        sums: b.output(2 * channels),
        dgamma: b.input(stored, fill),
        dbeta: b.input(stored, fill),
    };
    b.finish(in_format(format, format!("{rows} x {channels} of {stored}, {activation:?}")), call)
}

pub(super) fn input_case(
    format: Option<Format>,
    (rows, channels): (usize, usize),
    activation: Activation,
    residual: bool,
) -> Case {
    let mut b = Builder::default();
    let call = BnGradInput {
        params: batch_norm_params(format, (rows, channels), activation),
        z: b.map(format, rows * channels, FINE),
        dy: b.map(format, rows * channels, Fill::Values(1.0)),
        batch: b.input(2 * channels, Fill::Positive),
        scale: b.input(channels, COARSE),
        shift: b.input(channels, FINE),
        sums: b.input(2 * channels, Fill::Values(rows as f32)),
        residual: residual.then(|| b.map(format, rows * channels, Fill::Values(1.0))),
        dz: b.map_output(format, rows * channels),
    };
    let residual = if residual { ", residual" } else { "" };
    b.finish(in_format(format, format!("{rows} x {channels}, {activation:?}{residual}")), call)
}

/// Batch norms of so many channels, more that are stored, and rows.
fn running_cases(shapes: &[(usize, usize, u32)]) -> Case {
    let mut b = Builder::default();
    let calls = shapes.iter().map(|&(channels, more, rows)| {
        let (stored, fill) = prefix(channels, more);
        let unbias = if rows == 1 { 1.0 } else { rows as f32 / (rows - 1) as f32 };
        BnRunning {
            params: RunningParams { channels: channels as u32, momentum: 0.1, unbias },
            batch: b.input(2 * channels, Fill::Positive),
            mean: b.input(stored, fill),
            variance: b.input(stored, fill),
        }
    });
    let calls = calls.collect();
    let (channels, more, rows) = shapes[0];
    let name = format!("{channels} of {}, {rows} rows", channels + more);
    b.finish(several(shapes.len(), name), BnRunningGroup { calls })
}

pub(super) fn squeeze_excite_case(
    format: Option<Format>,
    (images, side): (usize, usize),
    (channels, hidden): (usize, usize),
    more: usize,
) -> Case {
    let mut b = Builder::default();
    let (stored_channels, stored_hidden) = (channels + more, hidden + more);
    let params = squeeze_excite_shape(format, (images, side), (channels, hidden), more);
    let map = images * side * side * channels;
    let reduce = panelled_len(hidden, stored_channels);
    let reduce_fill = Fill::Panels { cout: hidden, cin: channels, stored: stored_channels };
    let expand = panelled_len(channels, stored_hidden);
    let expand_fill = Fill::Panels { cout: channels, cin: hidden, stored: stored_hidden };
    let (reduce_bias, reduce_bias_fill) = prefix(hidden, more);
    let (expand_bias, expand_bias_fill) = prefix(channels, more);
    let call = SqueezeExciteGrad {
        params,
        x: b.map(format, map, Fill::Values(2.0)),
        gate: b.input(images * channels, Fill::Positive),
        dxg: b.map(format, map, Fill::Values(1.0)),
        reduce: b.weights(reduce, reduce_fill),
        reduce_bias: b.weights(reduce_bias, reduce_bias_fill),
        expand: b.weights(expand, expand_fill),
        expand_bias: b.weights(expand_bias, expand_bias_fill),
        scratch: b.output(SqueezeExciteGrad::scratch_len(&params)),
        dx: b.map_output(format, map),
        dreduce: b.input(reduce, reduce_fill),
        dreduce_bias: b.input(reduce_bias, reduce_bias_fill),
        dexpand: b.input(expand, expand_fill),
        dexpand_bias: b.input(expand_bias, expand_bias_fill),
    };
    let name = format!("{images} x {side}, {channels} by {hidden}, stored {more} more");
    b.finish(in_format(format, name), call)
}

pub(super) fn global_pool_case(format: Option<Format>, images: usize, side: usize, channels: usize) -> Case {
    let mut b = Builder::default();
    let call = GlobalPoolGrad {
        params: pool_shape(format, (images, side, 1), channels),
        dy: b.input(images * channels, Fill::Values(1.0)),
        dx: b.map_output(format, images * side * side * channels),
    };
    b.finish(in_format(format, format!("{images} x {side}, {channels}")), call)
}

/// Inputs are three whole numbers, so that most windows have ties.
pub(super) fn max_pool_case(
    format: Option<Format>,
    (images, side): (usize, usize),
    channels: usize,
    residual: bool,
) -> Case {
    let mut b = Builder::default();
    let (map, side_out) = (images * side * side * channels, side.div_ceil(2));
    let call = MaxPoolGrad {
        params: pool_shape(format, (images, side, side_out), channels),
        x: b.map(format, map, Fill::Steps { step: 1.0, reach: 1.0 }),
        dy: b.map(format, images * side_out * side_out * channels, Fill::Values(1.0)),
        residual: residual.then(|| b.map(format, map, Fill::Values(1.0))),
        dx: b.map_output(format, map),
    };
    let residual = if residual { ", residual" } else { "" };
    b.finish(in_format(format, format!("{images} x {side}, {channels}{residual}")), call)
}

/// Activation and gradient, inputs at the corners among the others.
pub(super) fn activation_cases(
    format: Option<Format>,
    len: usize,
    activation: Activation,
    mask: bool,
) -> [Case; 2] {
    let params =
        activation::Params { len: len as u32, activation: activation as u32, format: number(format) };
    let name = in_format(format, format!("{len}, {activation:?}{}", if mask { ", mask" } else { "" }));
    // The corners are among these, and few products of slopes with 16-bit numbers are ties.
    let x = Fill::Steps { step: 0.1, reach: 4.0 };
    let mut b = Builder::default();
    let forward = Activate {
        params,
        x: b.map(format, len, x),
        mask: mask.then(|| b.input(len, Fill::Whole(2))),
        y: b.map_output(format, len),
    };
    let forward = b.finish(name.clone(), forward);
    let mut b = Builder::default();
    let backward = ActivateGrad {
        params,
        x: b.map(format, len, x),
        dy: b.map(format, len, Fill::Values(1.0)),
        mask: mask.then(|| b.input(len, Fill::Whole(2))),
        dx: b.map_output(format, len),
    };
    [forward, b.finish(name, backward)]
}

pub(super) fn columns_case(format: Option<Format>, rows: usize, columns: usize, more: usize) -> Case {
    let mut b = Builder::default();
    let (stored, fill) = prefix(columns, more);
    let call = ColumnSum {
        params: ColumnsParams { rows: rows as u32, columns: columns as u32, format: number(format) },
        x: b.map(format, rows * columns, Fill::Values(1.0)),
        partials: b.output(ColumnSum::partials_len(rows, columns)),
        y: b.input(stored, fill),
    };
    b.finish(in_format(format, format!("{rows} x {columns} of {stored}")), call)
}

/// Filters of a size, each of so many channels.
fn kernel_transform_cases(from: usize, channels: &[usize]) -> Case {
    let mut b = Builder::default();
    let to = from - 2;
    let calls = channels.iter().map(|&channels| KernelTransformGrad {
        params: kernel_transform::Params { channels: channels as u32, from: from as u32, to: to as u32 },
        x: b.weights(from * from * channels, Fill::Values(1.0)),
        matrix: b.weights(to.pow(4), Fill::Values(0.3)),
        dy: b.input(to * to * channels, Fill::Values(1.0)),
        dx: b.input(from * from * channels, Fill::Values(1.0)),
        dmatrix: b.input(to.pow(4), Fill::Values(1.0)),
    });
    let calls = calls.collect();
    let name = several(channels.len(), format!("{from} to {to}, {}", channels[0]));
    b.finish(name, KernelTransformGradGroup { calls })
}

fn targets_case(images: usize, classes: usize, exits: usize) -> Case {
    let mut b = Builder::default();
    let stride = classes.next_multiple_of(8) + 8;
    let fill = Fill::Rows { used: classes, stored: stride };
    let mut exit = |number: usize| (number < exits).then(|| b.input(images * stride, fill));
    let [a, others @ ..] = [exit(0), exit(1), exit(2), exit(3), exit(4)];
    let [b_slot, c, d, e] = others;
    let call = SoftTargets {
        params: TargetsParams {
            images: images as u32,
            classes: classes as u32,
            stride: stride as u32,
            weights: [1.5, 0.25, 3.0, 0.75, 2.0],
        },
        a: a.unwrap_or(Slot::weights(0, 0)),
        b: b_slot,
        c,
        d,
        e,
        probabilities: b.output(images * stride),
    };
    b.finish(format!("{images} x {classes}, {exits} exits"), call)
}

/// The logits of a case with ties are whole numbers.
fn loss_case((images, classes): (usize, usize), smoothing: f32, teacher: bool, ties: bool) -> Case {
    let mut b = Builder::default();
    let stride = if ties { classes } else { classes.next_multiple_of(8) + 8 };
    let rows = Fill::Rows { used: classes, stored: stride };
    let call = Loss {
        params: loss::Params {
            images: images as u32,
            classes: classes as u32,
            stride: stride as u32,
            smoothing,
            label_ratio: if teacher { 0.5 } else { 1.0 },
            kd_ratio: if teacher { 0.75 } else { 0.0 },
            weight: 1.25,
        },
        logits: b.input(images * stride, if ties { Fill::Steps { step: 1.0, reach: 2.0 } } else { rows }),
        labels: b.input(images, Fill::Whole(classes as u32)),
        teacher: teacher.then(|| b.input(images * stride, rows)),
        scores: b.output(2 * images),
        dlogits: b.output(images * stride),
    };
    let teacher = if teacher { ", teacher" } else { "" };
    let ties = if ties { ", ties" } else { "" };
    b.finish(format!("{images} x {classes}, smoothing {smoothing}{teacher}{ties}"), call)
}

/// How far the first tensor of a case of updates lies from where four elements can be read at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lies {
    Aligned,
    OneOff,
}

impl Lies {
    fn offset(self) -> usize {
        match self {
            Lies::Aligned => 0,
            Lies::OneOff => 1,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Lies::Aligned => "",
            Lies::OneOff => ", one off",
        }
    }
}

/// Tensors of some lengths in buffers that are laid out alike. They begin at multiples of four elements,
/// or one off, and there are gaps between them.
struct Tensors {
    segments: Vec<Segment>,
    /// Elements of a buffer.
    len: usize,
}

impl Tensors {
    fn new(lens: &[usize], lies: Lies) -> Tensors {
        let (mut segments, mut end) = (Vec::new(), lies.offset());
        for &len in lens {
            segments.push(Segment { offset: end as u32, len: len as u32 });
            end += (len + 1).next_multiple_of(4);
        }
        Tensors { segments, len: end }
    }

    /// A buffer with something in the tensors and nothing between them.
    fn input(&self, b: &mut Builder, fill: Fill) -> Slot {
        let slot = b.output(self.len);
        let part = |at: &Segment| (slot.part(at.offset as usize, at.len as usize), fill);
        b.fills.extend(self.segments.iter().map(part));
        slot
    }
}

/// What a case's tensors are called.
fn lengths(lens: &[usize]) -> String {
    match lens {
        [one] => one.to_string(),
        many => format!("{} of up to {}", many.len(), many.iter().max().unwrap_or(&0)),
    }
}

fn fill_case(len: usize, lies: Lies) -> Case {
    let mut b = Builder::default();
    let params = update::FillParams { len: len as u32, value: 0.5 };
    let y = b.output(lies.offset() + len).part(lies.offset(), len);
    b.finish(format!("{len}{}", lies.described()), update::Fill { params, y })
}

fn squares_case(lens: &[usize], lies: Lies) -> Case {
    let mut b = Builder::default();
    let tensors = Tensors::new(lens, lies);
    let call = SumOfSquares {
        x: tensors.input(&mut b, Fill::Values(1.0)),
        partials: b.output(SumOfSquares::partials_len(lens.iter().copied())),
        y: b.output(lens.len()),
        params: update::SquaresParams { segments: tensors.segments },
    };
    b.finish(format!("{}{}", lengths(lens), lies.described()), call)
}

fn clip_case(count: usize, limit: f32, unscale: f32) -> Case {
    let mut b = Builder::default();
    let call = ClipFactor {
        params: update::ClipParams { count: count as u32, limit, unscale },
        squares: b.input(count, Fill::Positive),
        out: b.output(3),
    };
    b.finish(format!("{count}, limit {limit}, times {unscale}"), call)
}

/// The clipping factor of a case of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factor {
    /// None.
    Absent,
    /// That of a gradient that is finite.
    Clipped,
    /// That of one that is not.
    Skipped,
}

impl Factor {
    fn input(self, b: &mut Builder) -> Option<Slot> {
        let flag = match self {
            Factor::Absent => return None,
            Factor::Clipped => Fill::Values(0.0),
            Factor::Skipped => Fill::Positive,
        };
        let slot = b.output(3);
        b.fills.extend([(slot.part(0, 2), Fill::Positive), (slot.part(2, 1), flag)]);
        Some(slot)
    }

    fn described(self) -> &'static str {
        match self {
            Factor::Absent => "",
            Factor::Clipped => ", clipped",
            Factor::Skipped => ", skipped",
        }
    }
}

fn sgd_case(lens: &[usize], nesterov: bool, factor: Factor, lies: Lies) -> Case {
    let mut b = Builder::default();
    let tensors = Tensors::new(lens, lies);
    let values = Fill::Values(1.0);
    let decays = [0.01, 0.0].into_iter().cycle();
    let segments = tensors.segments.iter().zip(decays);
    let call = Sgd {
        params: update::SgdParams {
            rate: 0.05,
            momentum: 0.9,
            nesterov,
            segments: segments.map(|(&at, decay)| SgdSegment { at, decay }).collect(),
        },
        g: tensors.input(&mut b, values),
        clip: factor.input(&mut b),
        velocity: tensors.input(&mut b, values),
        w: tensors.input(&mut b, values),
    };
    let kind = if nesterov { "Nesterov" } else { "plain" };
    let factor = factor.described();
    b.finish(format!("{}, {kind}{factor}{}", lengths(lens), lies.described()), call)
}

fn adamw_case(lens: &[usize], factor: Factor, lies: Lies) -> Case {
    let mut b = Builder::default();
    let tensors = Tensors::new(lens, lies);
    let values = Fill::Values(1.0);
    let segment = |(&at, step): (&Segment, i32)| AdamWSegment {
        at,
        decay: if step % 2 == 1 { 0.05 } else { 0.0 },
        correction1: 1.0 - 0.9f32.powi(step),
        correction2: 1.0 - 0.999f32.powi(step),
    };
    let call = AdamW {
        params: update::AdamWParams {
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            segments: tensors.segments.iter().zip(3..).map(segment).collect(),
        },
        g: tensors.input(&mut b, values),
        clip: factor.input(&mut b),
        m: tensors.input(&mut b, values),
        v: tensors.input(&mut b, Fill::Positive),
        w: tensors.input(&mut b, values),
    };
    b.finish(format!("{}{}{}", lengths(lens), factor.described(), lies.described()), call)
}

pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSigmoid, HSwish, None as Linear, Relu};
    let mut cases = Vec::new();
    for (shape, more, activation) in [
        ((1, 8), 0, Relu),
        ((2, 1152), 8, HSwish),
        ((49, 40), 0, Linear),
        ((256, 16), 24, HSigmoid),
        ((257, 24), 0, HSwish),
        ((1500, 72), 8, Relu),
        ((2800, 8), 0, HSwish),
    ] {
        cases.push(sums_case(None, shape, more, activation));
        cases.push(input_case(None, shape, activation, more != 0));
    }
    cases.extend([(8, 0, 1), (136, 24, 50), (1152, 0, 4096)].map(|shape| running_cases(&[shape])));
    // More than a launch takes, of different lengths.
    let many: Vec<(usize, usize, u32)> = (0..70).map(|i| (8 + 40 * (i % 5), 8 * (i % 2), 9)).collect();
    cases.push(running_cases(&many));
    for (map, channels, hidden, more) in [
        ((1, 1), 8, 8, 0),
        ((3, 2), 240, 64, 0),
        ((4, 3), 72, 24, 24),
        ((9, 5), 120, 32, 8),
        ((1, 14), 16, 8, 0),
        ((2, 17), 40, 16, 16),
    ] {
        cases.push(squeeze_excite_case(None, map, (channels, hidden), more));
    }
    for (images, side, channels) in [(1, 1, 8), (3, 2, 1152), (2, 3, 40), (5, 7, 96), (1, 14, 24)] {
        cases.push(global_pool_case(None, images, side, channels));
        cases.push(max_pool_case(None, (images, side), channels, images > 2));
    }
    for (len, activation, mask) in [
        (8, Relu, false),
        (1048, HSwish, true),
        (40, HSigmoid, true),
        (16400, HSwish, false),
        (24, Linear, true),
    ] {
        cases.extend(activation_cases(None, len, activation, mask));
    }
    for (rows, columns, more) in [(1, 8, 0), (13, 104, 8), (256, 16, 0), (700, 24, 24)] {
        cases.push(columns_case(None, rows, columns, more));
    }
    for from in [5, 7] {
        cases
            .extend([&[8][..], &[168], &[40, 8, 168]].map(|channels| kernel_transform_cases(from, channels)));
    }
    cases.extend([targets_case(1, 2, 1), targets_case(21, 10, 2), targets_case(3, 77, 5)]);
    cases.push(loss_case((1, 2), 0.0, false, false));
    cases.push(loss_case((21, 10), 0.1, false, false));
    cases.push(loss_case((37, 16), 0.1, false, true));
    cases.push(loss_case((5, 77), 0.1, true, false));
    cases.push(loss_case((3, 1000), 0.0, true, false));
    use Factor::{Absent, Clipped, Skipped};
    use Lies::{Aligned, OneOff};
    cases.extend([fill_case(1, Aligned), fill_case(20_003, Aligned), fill_case(1030, OneOff)]);
    // Tensors of several blocks and of one; more than a launch takes.
    let (mixed, many) = ([5, 8_195, 1, 1_024, 4_097, 40], [7; 325]);
    cases.extend([squares_case(&[1], Aligned), squares_case(&[4096], Aligned)]);
    cases.extend([squares_case(&[20_003], Aligned), squares_case(&[9_000], OneOff)]);
    cases.extend([squares_case(&mixed, Aligned), squares_case(&many, Aligned)]);
    cases.extend([clip_case(1, 100.0, 1.0), clip_case(417, 1.0, 1.0), clip_case(5, f32::INFINITY, 1.0)]);
    cases.extend([clip_case(33, 0.001, 1.0 / 1024.0), clip_case(9, f32::INFINITY, 0.125)]);
    cases.extend([sgd_case(&[1], false, Absent, Aligned), sgd_case(&[20_003], true, Clipped, Aligned)]);
    cases.extend([sgd_case(&[1000], false, Clipped, Aligned), sgd_case(&mixed, true, Clipped, OneOff)]);
    cases.extend([sgd_case(&mixed, true, Clipped, Aligned), sgd_case(&many, false, Clipped, Aligned)]);
    cases.extend([adamw_case(&[1], Absent, Aligned), adamw_case(&[20_003], Clipped, Aligned)]);
    cases.extend([adamw_case(&mixed, Absent, OneOff), adamw_case(&mixed, Clipped, Aligned)]);
    cases.push(adamw_case(&many, Clipped, Aligned));
    cases.extend([sgd_case(&mixed, true, Skipped, Aligned), adamw_case(&mixed, Skipped, Aligned)]);
    cases
}

pub(super) fn network(images: usize, r: usize) -> Vec<Case> {
    use Activation::{HSwish, Relu};
    let [widest, middle, last] = [2, 8, 32].map(|stride| r.div_ceil(stride));
    let rows = images * widest * widest;
    let mut cases = vec![
        sums_case(None, (rows, 96), 0, Relu),
        input_case(None, (rows, 96), Relu, false),
        sums_case(None, (images * middle * middle, 240), 0, HSwish),
        input_case(None, (images * middle * middle, 240), HSwish, true),
        running_cases(&[(960, 0, 4096)]),
        squeeze_excite_case(None, (images, middle), (240, 64), 0),
        squeeze_excite_case(None, (images, r.div_ceil(16)), (672, 168), 0),
        global_pool_case(None, images, last, 960),
        max_pool_case(None, (images, widest), 16, true),
        columns_case(None, images, 200, 0),
        kernel_transform_cases(7, &[960]),
        targets_case(images, 200, 5),
        loss_case((images, 200), 0.1, true, false),
        fill_case(153_600, Lies::Aligned),
        squares_case(&[153_600], Lies::Aligned),
        clip_case(400, 1.0, 1.0),
        sgd_case(&[153_600], true, Factor::Clipped, Lies::Aligned),
        adamw_case(&[153_600], Factor::Clipped, Lies::Aligned),
    ];
    cases.extend(activation_cases(None, images * 1280, HSwish, true));
    cases
}

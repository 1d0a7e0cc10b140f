//! Cases of batch norm's forward operators.

use super::forward::in_format;
use super::{Builder, Case, Fill};
use crate::ops::Activation;
use crate::ops::batch_norm::{
    ApplyParams, Average, AverageParams, BatchFold, BnApply, BnApplyGroup, BnAverage, BnFold, BnMerge,
    BnStatistics, Fold, FoldParams, Merge, MergeParams, StatisticsParams,
};
use crate::ops::halves::{Format, number};

/// Channels of an f32 map are far from zero, with a little spread; one of 16 bits has no digits for that.
pub(super) fn statistics_case(
    format: Option<Format>,
    (batches, rows, channels): (usize, usize, usize),
    shifted: bool,
    fold: bool,
) -> Case {
    let mut b = Builder::default();
    let params = StatisticsParams {
        rows: rows as u32,
        channels: channels as u32,
        batches: batches as u32,
        epsilon: 1e-5,
        format: number(format),
    };
    let call = BnStatistics {
        params,
        x: if shifted {
            b.input(batches * rows * channels, Fill::Shifted(channels))
        } else {
            b.map(format, batches * rows * channels, Fill::Values(1.0))
        },
        partials: b.output(BnStatistics::partials_len(batches, rows, channels)),
        batch: b.output(batches * 2 * channels),
        fold: fold.then(|| batch_fold(&mut b, batches, channels)),
    };
    let folded = if fold { ", folded" } else { "" };
    b.finish(in_format(format, format!("{batches} x {rows} x {channels}{folded}")), call)
}

/// Batches and rows of a batch; rows of a unit and of a span; channels.
type Merged = ((usize, usize), (usize, usize), usize);

/// Merges, every other folded, beginning with the first or not.
fn merge_case(shapes: &[Merged], folded: bool) -> Case {
    let mut b = Builder::default();
    let merge = |(index, &((batches, rows), (unit, span), channels)): (usize, &Merged)| {
        let params = MergeParams {
            rows: rows as u32,
            unit_rows: unit as u32,
            span_rows: span as u32,
            channels: channels as u32,
            batches: batches as u32,
            epsilon: 1e-5,
        };
        Merge {
            params,
            partials: b.input(params.partials_len(), Fill::Positive),
            batch: b.output(batches * 2 * channels),
            fold: (folded == (index % 2 == 0)).then(|| batch_fold(&mut b, batches, channels)),
        }
    };
    let calls = shapes.iter().enumerate().map(merge).collect();
    let ((batches, rows), (unit, span), channels) = shapes[0];
    let first = format!("{batches} x {rows} in {unit} of {span} x {channels}");
    let folded = if folded { ", folded" } else { "" };
    let name = if shapes.len() > 1 { format!("{} as {first}{folded}", shapes.len()) } else { first + folded };
    b.finish(name, BnMerge { calls })
}

fn batch_fold(b: &mut Builder, batches: usize, channels: usize) -> BatchFold {
    BatchFold {
        gamma: b.weights(channels, Fill::Positive),
        beta: b.weights(channels, Fill::Values(1.0)),
        scale: b.output(batches * channels),
        shift: b.output(batches * channels),
    }
}

/// Statistics of these lengths, averaged over a number of batches.
fn average_case(lengths: &[usize], batches: usize) -> Case {
    let mut b = Builder::default();
    let average = |&length: &usize| Average {
        params: AverageParams { length: length as u32, batches: batches as u32, weight: 0.25 },
        batch: b.input(batches * length, Fill::Values(1.0)),
        average: b.input(length, Fill::Values(1.0)),
    };
    let calls = lengths.iter().map(average).collect();
    b.finish(format!("{} over {batches} batches", lengths.len()), BnAverage { calls })
}

/// Batch norms of these many channels; every other behind a bias, beginning with the first or not.
fn fold_case(channels: &[usize], bias: bool) -> Case {
    let mut b = Builder::default();
    let fold = |(index, &channels): (usize, &usize)| Fold {
        params: FoldParams { channels: channels as u32, epsilon: 1e-5 },
        gamma: b.weights(channels, Fill::Positive),
        beta: b.weights(channels, Fill::Values(1.0)),
        mean: b.input(channels, Fill::Values(1.0)),
        variance: b.input(channels, Fill::Positive),
        bias: (bias == (index % 2 == 0)).then(|| b.weights(channels, Fill::Values(1.0))),
        scale: b.output(channels),
        shift: b.output(channels),
    };
    let calls = channels.iter().enumerate().map(fold).collect();
    let name = match channels {
        [one] => one.to_string(),
        many => format!("{} of up to {}", many.len(), many.iter().max().unwrap_or(&0)),
    };
    b.finish(format!("{name}{}", if bias { " with bias" } else { "" }), BnFold { calls })
}

/// Batches, rows of a batch, and channels; activation, whether with a residual, and whether in place.
type Apply = ((usize, usize, usize), Activation, bool, bool);

fn apply_call(
    b: &mut Builder,
    format: Option<Format>,
    (shape, activation, residual, in_place): Apply,
) -> BnApply {
    let (batches, rows, channels) = shape;
    let numbers = batches * rows * channels;
    let x = b.map(format, numbers, Fill::Values(2.0));
    BnApply {
        params: ApplyParams {
            rows: (batches * rows) as u32,
            batch_rows: rows as u32,
            channels: channels as u32,
            activation: activation as u32,
            format: number(format),
        },
        x,
        scale: b.input(batches * channels, Fill::Positive),
        shift: b.input(batches * channels, Fill::Values(1.0)),
        residual: residual.then(|| b.map(format, numbers, Fill::Values(1.0))),
        y: if in_place { x } else { b.map_output(format, numbers) },
    }
}

pub(super) fn apply_case(
    format: Option<Format>,
    shape: (usize, usize, usize),
    activation: Activation,
    residual: bool,
    in_place: bool,
) -> Case {
    let mut b = Builder::default();
    let call = apply_call(&mut b, format, (shape, activation, residual, in_place));
    let (batches, rows, channels) = shape;
    let residual = if residual { ", residual" } else { "" };
    let place = if in_place { ", in place" } else { "" };
    let name = format!("{batches} x {rows} x {channels}, {activation:?}{residual}{place}");
    b.finish(in_format(format, name), call)
}

/// A group of applications, in these formats in turn.
pub(super) fn apply_group_case(formats: &[Option<Format>], calls: &[Apply]) -> Case {
    let mut b = Builder::default();
    let formats_in_turn = formats.iter().cycle();
    let calls: Vec<_> = calls.iter().zip(formats_in_turn).map(|(&c, &f)| apply_call(&mut b, f, c)).collect();
    let largest = calls.iter().map(|call| call.y.len).max().unwrap_or(0);
    let name = format!("{} up to {largest}", calls.len());
    let name = if let [format] = formats { in_format(*format, name) } else { name };
    b.finish(name, BnApplyGroup { calls })
}

/// More applications than a launch takes, large and small ones.
pub(super) fn many_applies() -> Vec<Apply> {
    let activations = [Activation::HSwish, Activation::Relu, Activation::None];
    let one = |i: usize| {
        let shape = (1 + i % 3, 1 + 7 * i % 40, 8 + i % 5 * 16);
        (shape, activations[i % 3], i.is_multiple_of(2), i % 4 == 3)
    };
    (0..70).map(one).collect()
}

/// Those in every format, more of one than a launch takes.
pub(super) fn apply_group() -> Case {
    let [f16, bf16] = Format::ALL.map(Some);
    let formats = [None, bf16, bf16, f16, bf16];
    apply_group_case(&formats, &[many_applies(), many_applies()].concat())
}

pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let mut cases = Vec::new();
    for (rows, channels) in [(1, 8), (2, 1152), (49, 40), (256, 16), (257, 24), (1500, 72), (5000, 8)] {
        cases.push(statistics_case(None, (1, rows, channels), true, false));
        cases.push(statistics_case(None, (1, rows, channels), true, true));
    }
    // Batches of one block of rows, of as many as a block of threads takes by itself, and of more.
    for (batches, rows, channels) in [(3, 4, 40), (2, 8192, 8), (2, 8193, 40)] {
        cases.push(statistics_case(None, (batches, rows, channels), true, true));
    }
    // One row; short last units of one span and of several, a shorter last span; spans shorter than a unit;
    // as many units as are merged side by side and one more; and more than a launch takes.
    let shapes = [
        ((1, 1), (1, 1), 8),
        ((3, 49), (16, 49), 40),
        ((2, 100), (8, 36), 24),
        ((2, 50), (64, 7), 72),
        ((1, 8), (1, 1), 136),
        ((1, 9), (1, 9), 16),
        ((1, 1000), (3, 10), 1152),
        ((2, 6300), (49, 196), 104),
    ];
    for folded in [false, true] {
        cases.extend(shapes.map(|shape| merge_case(&[shape], folded)));
    }
    let many: Vec<Merged> = (0..60).map(|index| shapes[5 * index % 6]).collect();
    cases.push(merge_case(&many, true));
    cases.extend([average_case(&[16], 1), average_case(&[2304; 3], 5)]);
    let lengths: Vec<usize> = (0..70).map(|index| [16, 2304, 80][index % 3]).collect();
    cases.push(average_case(&lengths, 2));
    cases.extend([fold_case(&[8], false), fold_case(&[1152], true)]);
    // More than a launch takes.
    let widths: Vec<usize> = (0..70).map(|index| [8, 1152, 136, 40][index % 4]).collect();
    cases.push(fold_case(&widths, true));
    cases.push(apply_case(None, (1, 1, 8), Relu, false, false));
    cases.push(apply_case(None, (3, 49, 40), HSwish, true, false));
    cases.push(apply_case(None, (1, 5, 1152), Linear, false, true));
    cases.push(apply_case(None, (2, 392, 24), HSwish, true, true));
    cases.push(apply_group_case(&[None], &many_applies()));
    cases.push(apply_group_case(&[None], &[((1, 1, 8), Relu, false, false)]));
    cases
}

pub(super) fn network(images: usize, r: usize) -> Vec<Case> {
    use Activation::Relu;
    let widest = r.div_ceil(2);
    let pixels = widest.div_ceil(2) * widest.div_ceil(2);
    vec![
        statistics_case(None, (1, images * widest * widest, 96), true, true),
        apply_case(None, (1, images * widest * widest, 96), Relu, false, true),
        // As a stage's layers of several networks have them.
        merge_case(&[((1, images * pixels), (64, pixels), 240); 20], true),
        apply_group_case(&[None], &[((1, images * pixels, 144), Relu, false, false); 3]),
        fold_case(&[960; 50], false),
        average_case(&[1920; 50], 5),
    ]
}

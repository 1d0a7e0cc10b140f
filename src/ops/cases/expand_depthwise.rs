//! Cases of expansion and depthwise filter in one call.

use super::mbconv::EVERY_CARD;
use super::{Builder, Case, Fill};
use crate::ops::expand_depthwise::{ExpandDepthwise, Params, fits};
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::mbconv;
use crate::ops::pointwise_half::weights_len;
use crate::ops::{Activation, Call};

/// What differs between cases.
#[derive(Clone, Copy)]
struct Shape {
    /// Of recalibration two batches of so many images.
    images: usize,
    recalibrates: bool,
    side: usize,
    /// Kernel and stride.
    filter: (usize, usize),
    /// Input and expanded channels; no expansion where the first is 0.
    channels: (usize, usize),
    activation: Activation,
    means: bool,
    /// Channels that are stored and not used, wherever there can be any.
    more: usize,
}

fn case(format: Format, s: Shape) -> Case {
    let mut b = Builder::default();
    let ((kernel, stride), (cin, mid)) = (s.filter, s.channels);
    let (expands, stored_cin, stored_mid) = (cin > 0, cin + s.more, mid + s.more);
    let (input, side_out) = (if expands { cin } else { mid }, s.side.div_ceil(stride));
    let batches = if s.recalibrates { 2 } else { 1 };
    let shape = mbconv::Params {
        images: (batches * s.images) as u32,
        side_in: s.side as u32,
        side_out: side_out as u32,
        cin: input as u32,
        mid: mid as u32,
        kernel: kernel as u32,
        stride: stride as u32,
        activation: s.activation as u32,
        weight_cin: if expands { stored_cin as u32 } else { 0 },
        weight_channels: stored_mid as u32,
        format: format as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    let params = Params { shape, batch_images: s.recalibrates.then_some(s.images as u32) };
    let vectors = batches * mid;
    let rows = Fill::HalfRows { format, used: cin, stored: stored_cin };
    let numbers = |side: usize, channels: usize| batches * s.images * side * side * channels / PER_ELEMENT;
    let call = ExpandDepthwise {
        params,
        x: b.input(numbers(s.side, input), Fill::Halves { format, size: 1.0 }),
        expand: expands.then(|| b.weights(weights_len(mid, stored_cin), rows)),
        expand_scale: expands.then(|| b.input(vectors, Fill::Positive)),
        expand_shift: expands.then(|| b.input(vectors, Fill::Values(1.0))),
        filter: b.weights(kernel * kernel * stored_mid, Fill::Rows { used: mid, stored: stored_mid }),
        filter_scale: b.input(vectors, Fill::Positive),
        filter_shift: b.input(vectors, Fill::Values(1.0)),
        y: b.output(numbers(side_out, mid)),
        means: s.means.then(|| b.output(batches * s.images * side_out * mid)),
    };
    let Shape { images, recalibrates, side, activation, means, more, .. } = s;
    let name = format!(
        "{format:?} {}{images} x {side}/{stride} k{kernel}, {cin} to {mid} channels and {more} more, {activation:?}{}",
        if recalibrates { "2 batches of " } else { "" },
        if means { ", means" } else { "" },
    );
    b.finish(name, call)
}

/// The first half of a layer of a network, if its block fits any card.
pub(super) fn layer(
    format: Format,
    (images, side): (usize, usize),
    filter: (usize, usize),
    channels: (usize, usize),
    means: bool,
    activation: Activation,
) -> Option<Case> {
    let recalibrates = false;
    let case =
        case(format, Shape { images, recalibrates, side, filter, channels, activation, means, more: 0 });
    matches!(&case.call, Call::ExpandDepthwise(call) if fits(&call.params, EVERY_CARD)).then_some(case)
}

/// Every kernel, with and without each part, prefixes, tails of channels, slices and blocks of images, images in
/// bands, and some that fit no block otherwise.
pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let shape = |(images, recalibrates), side, filter, channels, (activation, means, more)| Shape {
        images,
        recalibrates,
        side,
        filter,
        channels,
        activation,
        means,
        more,
    };
    let (alone, batches) = (|images| (images, false), |images| (images, true));
    let shapes = [
        shape(alone(1), 1, (3, 1), (8, 8), (Relu, true, 0)),
        shape(alone(1), 2, (7, 2), (8, 24), (HSwish, true, 8)),
        shape(alone(3), 3, (5, 1), (24, 72), (Relu, true, 24)),
        shape(alone(9), 4, (7, 1), (80, 240), (HSwish, false, 0)),
        shape(alone(2), 7, (5, 2), (16, 136), (Relu, true, 16)),
        shape(alone(2), 12, (3, 2), (24, 96), (Linear, true, 0)),
        // Batches, of one image and of more than a block has.
        shape(batches(1), 3, (3, 1), (16, 24), (Relu, true, 0)),
        shape(batches(5), 6, (5, 2), (24, 72), (HSwish, true, 8)),
        shape(batches(1), 21, (7, 1), (16, 40), (Relu, false, 0)),
        shape(batches(2), 9, (3, 2), (0, 24), (HSwish, true, 0)),
        // A branch whose input is expanded already.
        shape(alone(3), 11, (5, 1), (0, 72), (HSwish, true, 8)),
        shape(alone(2), 17, (3, 1), (16, 72), (HSwish, true, 0)),
        // Images that fit no block.
        shape(alone(1), 48, (7, 2), (24, 72), (Relu, true, 0)),
        shape(alone(1), 45, (5, 1), (24, 64), (Relu, true, 8)),
    ];
    Format::ALL.into_iter().flat_map(|format| shapes.map(|shape| case(format, shape))).collect()
}

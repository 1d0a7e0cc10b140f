//! Cases of operators on 16-bit numbers. They are apart from the others, since their results are not
//! f32 elements to compare, and rounding is in the definition.

use super::{Builder, Case, Fill};
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::pointwise_half::{Params, PointwiseHalf, weights_len};
use crate::ops::{Activation, pointwise};

fn pointwise_case(
    format: Format,
    (images, side, stride): (usize, usize, usize),
    (cin, cout, more): (usize, usize, usize),
    // Folded batch norm with an activation; gate and residual.
    (folded, both): (Option<Activation>, bool),
) -> Case {
    let mut b = Builder::default();
    let (side_out, stored) = (side.div_ceil(stride), cin + more);
    let outputs = images * side_out * side_out * cout / PER_ELEMENT;
    let halves = |size| Fill::Halves { format, size };
    let call = PointwiseHalf {
        params: Params {
            shape: pointwise::Params {
                images: images as u32,
                side_in: side as u32,
                side_out: side_out as u32,
                cin: cin as u32,
                cout: cout as u32,
                weight_cin: stored as u32,
                stride: stride as u32,
                activation: folded.unwrap_or(Activation::None) as u32,
            },
            format: format as u32,
        },
        x: b.input(images * side * side * cin / PER_ELEMENT, halves(1.0)),
        w: b.weights(weights_len(cout, stored), Fill::HalfRows { format, used: cin, stored }),
        scale: folded.map(|_| b.input(cout, Fill::Positive)),
        shift: folded.map(|_| b.input(cout, Fill::Values(1.0))),
        gate: both.then(|| b.input(images * cin, Fill::Positive)),
        residual: both.then(|| b.input(outputs, halves(1.0))),
        y: b.output(outputs),
    };
    let around = match (folded, both) {
        (None, false) => "raw".into(),
        (None, true) => "gate and residual".into(),
        (Some(activation), false) => format!("folded, {activation:?}"),
        (Some(activation), true) => format!("folded, {activation:?}, gate and residual"),
    };
    b.finish(format!("{format:?} {images} x {side}/{stride}, {cin} of {stored} to {cout}, {around}"), call)
}

/// Every tile, tails of rows and channels, strides, prefixes, and what surrounds the product.
pub(super) fn edges() -> Vec<Case> {
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
    Format::ALL
        .into_iter()
        .flat_map(|format| {
            shapes.map(|(shape, channels, around)| pointwise_case(format, shape, channels, around))
        })
        .collect()
}

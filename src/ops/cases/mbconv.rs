//! Cases of whole inverted bottlenecks. They are apart from the other cases for the reason that those of
//! 16-bit operators are.

use super::{Builder, Case, Fill};
use crate::launch::panels::panelled_len;
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::mbconv::{Mbconv, MbconvGroup, Params, fits};
use crate::ops::pointwise_half::weights_len;
use crate::ops::{Activation, Call, Slot};
use crate::space::walk::Layer;

/// What differs between cases.
#[derive(Clone, Copy)]
struct Shape {
    images: usize,
    /// Of the map, or of a stem's images.
    side: usize,
    /// Kernel and stride.
    filter: (usize, usize),
    /// Input, expanded and output channels; no expansion where the first is 0, a stem where it is 3.
    channels: (usize, usize, usize),
    hidden: usize,
    activation: Activation,
    residual: bool,
    /// Channels that are stored and not used, wherever there can be any.
    more: usize,
}

/// A call, on a map of its own or on one that is there.
fn call(b: &mut Builder, format: Format, s: &Shape, given: Option<Slot>) -> Mbconv {
    let ((kernel, stride), (cin, mid, cout)) = (s.filter, s.channels);
    let (expands, stem) = (cin > 3, cin == 3);
    let cin = if cin > 0 { cin } else { mid };
    let side_in = if stem { s.side.div_ceil(2) } else { s.side };
    let side_out = side_in.div_ceil(stride);
    let (x, pixels) = if stem {
        (Fill::Values(1.0), 3 * s.side * s.side)
    } else {
        (Fill::Halves { format, size: 1.0 }, s.side * s.side * cin / PER_ELEMENT)
    };
    let outputs = s.images * side_out * side_out * cout / PER_ELEMENT;
    let halves = Fill::Halves { format, size: 1.0 };
    let (stored_cin, stored_mid, stored_hidden) = (cin + s.more, mid + s.more, s.hidden + s.more);
    let rows = |used: usize, stored: usize| Fill::HalfRows { format, used, stored };
    let panels = |cout: usize, cin: usize, stored: usize| Fill::Panels { cout, cin, stored };
    let se = s.hidden > 0;
    Mbconv {
        params: Params {
            images: s.images as u32,
            side_in: side_in as u32,
            side_out: side_out as u32,
            cin: cin as u32,
            mid: mid as u32,
            cout: cout as u32,
            kernel: kernel as u32,
            stride: stride as u32,
            activation: s.activation as u32,
            hidden: s.hidden as u32,
            weight_cin: if expands { stored_cin as u32 } else { 0 },
            weight_channels: stored_mid as u32,
            weight_mid: stored_mid as u32,
            se_channels: if se { stored_mid as u32 } else { 0 },
            se_hidden: if se { stored_hidden as u32 } else { 0 },
            image_side: if stem { s.side as u32 } else { 0 },
            stem_activation: if stem { Activation::HSwish as u32 } else { 0 },
            shortcut: u32::from(stem && s.residual),
            format: format as u32,
        },
        x: given.unwrap_or_else(|| b.input(s.images * pixels, x)),
        stem: stem.then(|| b.weights(27 * mid, Fill::Values(0.3))),
        expand: expands.then(|| b.weights(weights_len(mid, stored_cin), rows(cin, stored_cin))),
        expand_scale: (expands || stem).then(|| b.input(mid, Fill::Positive)),
        expand_shift: (expands || stem).then(|| b.input(mid, Fill::Values(1.0))),
        filter: b.weights(kernel * kernel * stored_mid, Fill::Rows { used: mid, stored: stored_mid }),
        filter_scale: b.input(mid, Fill::Positive),
        filter_shift: b.input(mid, Fill::Values(1.0)),
        reduce: se.then(|| b.weights(panelled_len(s.hidden, stored_mid), panels(s.hidden, mid, stored_mid))),
        reduce_bias: se.then(|| b.weights(s.hidden, Fill::Values(1.0))),
        excite: se.then(|| b.weights(panelled_len(mid, stored_hidden), panels(mid, s.hidden, stored_hidden))),
        excite_bias: se.then(|| b.weights(mid, Fill::Values(1.0))),
        project: b.weights(weights_len(cout, stored_mid), rows(mid, stored_mid)),
        project_scale: b.input(cout, Fill::Positive),
        project_shift: b.input(cout, Fill::Values(1.0)),
        residual: (s.residual && !stem).then(|| b.input(outputs, halves)),
        y: b.output(outputs),
    }
}

fn case(format: Format, s: Shape) -> Case {
    let mut b = Builder::default();
    let call = call(&mut b, format, &s, None);
    let ((kernel, stride), (cin, mid, cout)) = (s.filter, s.channels);
    let (expands, stem, se, stored_mid) = (cin > 3, cin == 3, s.hidden > 0, mid + s.more);
    let Shape { images, side, hidden, activation, residual, .. } = s;
    let name = format!(
        "{format:?} {images} x {side}/{stride} k{kernel}, {} of {stored_mid} channels, {activation:?}{}{}",
        match (expands, stem) {
            (true, _) => format!("{cin} to {mid} to {cout}"),
            (_, true) => format!("stem to {mid} to {cout}"),
            _ => format!("{mid} to {cout}"),
        },
        if se { format!(", SE {hidden}") } else { String::new() },
        if residual { ", residual" } else { "" },
    );
    b.finish(name, call)
}

/// Every kernel on one input, and one of them more often than a launch takes.
pub(super) fn group() -> Case {
    let mut b = Builder::default();
    let (format, images, side, cin) = (Format::Bf16, 3, 6, 24);
    let x = b.input(images * side * side * cin / PER_ELEMENT, Fill::Halves { format, size: 1.0 });
    let filters = [(3, 1); 16].into_iter().chain([(5, 1), (3, 2), (7, 2), (5, 1), (7, 1), (5, 2)]);
    let calls = filters.enumerate().map(|(index, filter)| {
        let channels = (cin, [72, 96, 144][index % 3], [24, 40][index % 2]);
        let hidden = [0, 24][index % 2];
        let activation = Activation::HSwish;
        let shape =
            Shape { images, side, filter, channels, hidden, activation, residual: index == 3, more: 0 };
        call(&mut b, format, &shape, Some(x))
    });
    let calls = calls.collect();
    b.finish("a group".into(), MbconvGroup { calls })
}

/// Shared memory that a block of every card since compute capability 8.0 can have.
pub(super) const EVERY_CARD: u32 = 99 << 10;

/// A layer of a network, if its block fits any card.
pub(super) fn layer(
    format: Format,
    (images, side): (usize, usize),
    filter: (usize, usize),
    channels: (usize, usize, usize),
    hidden: usize,
    activation: Activation,
) -> Option<Case> {
    let shape = Shape { images, side, filter, channels, hidden, activation, residual: false, more: 0 };
    let case = case(format, shape);
    matches!(&case.call, Call::Mbconv(call) if fits(&call.params, EVERY_CARD)).then_some(case)
}

/// The MBConvs of a network's layers that are one kernel with so much shared memory a block, each shape once.
pub(super) fn of_layers(format: Format, images: usize, layers: &[Layer], block_bytes: u32) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for layer in layers.iter().filter(|layer| layer.branches.mbconv) {
        let shape = Shape {
            images,
            side: layer.side_in,
            filter: (layer.kernel, layer.stride),
            channels: (layer.cin, layer.mid, layer.cout),
            hidden: layer.squeeze.unwrap_or(0),
            activation: layer.activation,
            residual: layer.shortcut,
            more: 0,
        };
        let case = case(format, shape);
        let fits = matches!(&case.call, Call::Mbconv(call) if fits(&call.params, block_bytes));
        if fits && cases.iter().all(|known| known.name != case.name) {
            cases.push(case);
        }
    }
    cases
}

/// Every kernel, with and without each part, prefixes, tails of channels, slices and blocks of images, and
/// layers of real networks.
pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let shape = |images, side, filter, channels, hidden, (activation, residual, more)| Shape {
        images,
        side,
        filter,
        channels,
        hidden,
        activation,
        residual,
        more,
    };
    let shapes = [
        shape(1, 1, (3, 1), (8, 8, 8), 0, (Relu, false, 0)),
        shape(1, 2, (7, 2), (8, 24, 8), 8, (HSwish, false, 8)),
        shape(3, 3, (5, 1), (24, 72, 40), 0, (Relu, true, 24)),
        shape(5, 2, (3, 1), (40, 120, 48), 32, (HSwish, true, 8)),
        shape(9, 4, (7, 1), (80, 240, 80), 64, (HSwish, true, 0)),
        shape(2, 7, (5, 2), (16, 136, 24), 40, (Relu, false, 16)),
        shape(2, 12, (3, 2), (24, 96, 40), 0, (Relu, false, 0)),
        shape(1, 14, (7, 1), (24, 88, 32), 24, (HSwish, false, 8)),
        shape(1, 9, (5, 1), (32, 48, 136), 0, (Linear, true, 0)),
        // The fixed first block, and a branch whose input is expanded already.
        shape(2, 11, (3, 1), (0, 16, 16), 0, (Relu, true, 0)),
        shape(3, 6, (5, 2), (0, 72, 24), 24, (HSwish, false, 8)),
        // With the stem: images of whole chunks a row and others, several to a block, a strip's tail.
        shape(1, 1, (3, 1), (3, 8, 8), 0, (Relu, true, 0)),
        shape(5, 7, (3, 1), (3, 24, 16), 0, (Relu, false, 8)),
        shape(3, 20, (3, 1), (3, 24, 24), 0, (HSwish, true, 0)),
        shape(2, 33, (3, 1), (3, 16, 16), 0, (Relu, true, 0)),
        shape(3, 64, (3, 1), (3, 16, 16), 0, (Relu, true, 0)),
        // Maps of which a slice is all that fits.
        shape(1, 32, (7, 2), (16, 96, 24), 0, (Relu, false, 0)),
        shape(1, 28, (3, 1), (24, 64, 40), 16, (Relu, false, 0)),
        // The same in bands, and two whose image fits no block.
        shape(2, 17, (5, 1), (16, 72, 24), 0, (HSwish, false, 0)),
        shape(1, 40, (5, 1), (24, 64, 24), 0, (HSwish, true, 8)),
        shape(1, 98, (3, 1), (3, 16, 16), 0, (Relu, true, 0)),
        // A late stage: one block for many images.
        shape(37, 2, (7, 1), (160, 480, 160), 120, (HSwish, true, 160)),
    ];
    Format::ALL.into_iter().flat_map(|format| shapes.map(|shape| case(format, shape))).collect()
}

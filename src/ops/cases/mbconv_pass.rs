//! Cases of the passes of inverted bottlenecks in recalibration.

use super::mbconv::EVERY_CARD;
use super::{Builder, Case, Fill};
use crate::launch::panels::panelled_len;
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::mbconv;
use crate::ops::mbconv_pass::{MbconvPass, MbconvPassGroup, Params, Pass, fits};
use crate::ops::pointwise_half::weights_len;
use crate::ops::{Activation, Call};

/// What differs between cases.
#[derive(Clone, Copy)]
struct Shape {
    /// Batches, and images of each.
    batches: (u32, u32),
    side: u32,
    /// Kernel and stride.
    filter: (u32, u32),
    /// Input, expanded and output channels; no expansion where the first is 0.
    channels: (u32, u32, u32),
    hidden: u32,
    activation: Activation,
    /// Channels that are stored and not used, wherever there can be any.
    more: u32,
}

impl Shape {
    fn whole(&self, format: Format) -> mbconv::Params {
        let ((kernel, stride), (cin, mid, cout)) = (self.filter, self.channels);
        let stored = |used: u32| if used > 0 { used + self.more } else { 0 };
        mbconv::Params {
            images: self.batches.0 * self.batches.1,
            side_in: self.side,
            side_out: self.side.div_ceil(stride),
            cin: if cin > 0 { cin } else { mid },
            mid,
            cout,
            kernel,
            stride,
            activation: self.activation as u32,
            hidden: self.hidden,
            weight_cin: stored(cin),
            weight_channels: stored(mid),
            weight_mid: stored(mid),
            se_channels: if self.hidden > 0 { stored(mid) } else { 0 },
            se_hidden: stored(self.hidden),
            image_side: 0,
            stem_activation: 0,
            shortcut: 0,
            format: format as u32,
        }
    }
}

fn call(b: &mut Builder, format: Format, s: &Shape, pass: Pass) -> MbconvPass {
    let params = Params::of(s.whole(format), pass, s.batches.1);
    let p = params.shape;
    let len = |number: u32| number as usize;
    let numbers = |side: u32, channels: u32| len(p.images * side * side * channels) / PER_ELEMENT;
    let (filters, projects, se) = (pass != Pass::Expanded, pass == Pass::Projected, p.hidden > 0);
    let halves = Fill::Halves { format, size: 1.0 };
    let rows = |used: u32, stored: u32| Fill::HalfRows { format, used: len(used), stored: len(stored) };
    let panels = |cout: u32, cin: u32, stored: u32| Fill::Panels {
        cout: len(cout),
        cin: len(cin),
        stored: len(stored),
    };
    let vectors = len(params.batches() * p.mid);
    let mut vector = |there: bool, fill: Fill| there.then(|| b.input(vectors, fill));
    let (shift, normalised) = (Fill::Values(1.0), filters && p.expands());
    let [expand_scale, expand_shift] = [Fill::Positive, shift].map(|fill| vector(normalised, fill));
    let [filter_scale, filter_shift] = [Fill::Positive, shift].map(|fill| vector(projects, fill));
    let matrix = |cout: u32, stored: u32| weights_len(len(cout), len(stored));
    let panel = |cout: u32, stored: u32| panelled_len(len(cout), len(stored));
    MbconvPass {
        params,
        x: b.input(numbers(p.side_in, p.cin), halves),
        expand: p.expands().then(|| b.weights(matrix(p.mid, p.weight_cin), rows(p.cin, p.weight_cin))),
        expand_scale,
        expand_shift,
        filter: filters.then(|| {
            let fill = Fill::Rows { used: len(p.mid), stored: len(p.weight_channels) };
            b.weights(len(p.kernel * p.kernel * p.weight_channels), fill)
        }),
        filter_scale,
        filter_shift,
        reduce: se.then(|| b.weights(panel(p.hidden, p.se_channels), panels(p.hidden, p.mid, p.se_channels))),
        reduce_bias: se.then(|| b.weights(len(p.hidden), shift)),
        excite: se.then(|| b.weights(panel(p.mid, p.se_hidden), panels(p.mid, p.hidden, p.se_hidden))),
        excite_bias: se.then(|| b.weights(len(p.mid), shift)),
        project: projects.then(|| b.weights(matrix(p.cout, p.weight_mid), rows(p.mid, p.weight_mid))),
        y: projects.then(|| b.output(numbers(p.side_out, p.cout))),
        partials: b.output(params.partials_len()),
    }
}

/// Passes of many networks: every kernel, and one of them more often than a launch takes.
pub(super) fn group() -> Case {
    let mut b = Builder::default();
    let filters = [(3, 1); 16].into_iter().chain([(5, 1), (3, 2), (7, 2), (5, 1), (7, 1), (5, 2)]);
    let calls = filters.enumerate().flat_map(|(index, filter)| {
        let channels = (24, [72, 96, 144][index % 3], [24, 40][index % 2]);
        let shape = Shape {
            batches: (1 + index as u32 % 2, 3),
            side: 6,
            filter,
            channels,
            hidden: [0, 24][index % 2],
            activation: Activation::HSwish,
            more: 0,
        };
        Pass::ALL.map(|pass| call(&mut b, Format::Bf16, &shape, pass))
    });
    let calls = calls.collect();
    b.finish("a group".into(), MbconvPassGroup { calls })
}

/// The passes of a layer of a network on one batch, if their blocks fit any card.
pub(super) fn layer(
    format: Format,
    (images, side): (usize, usize),
    (kernel, stride): (usize, usize),
    (cin, mid, cout): (usize, usize, usize),
    hidden: usize,
    activation: Activation,
) -> Vec<Case> {
    let number = |number: usize| number as u32;
    let shape = Shape {
        batches: (1, number(images)),
        side: number(side),
        filter: (number(kernel), number(stride)),
        channels: (number(cin), number(mid), number(cout)),
        hidden: number(hidden),
        activation,
        more: 0,
    };
    let cases = Pass::ALL.map(|pass| case((format, shape, pass)));
    let fit = |case: &Case| matches!(&case.call, Call::MbconvPass(call) if fits(&call.params, EVERY_CARD));
    cases.into_iter().filter(fit).collect()
}

/// Every kernel, with and without each part, prefixes, tails of channels, slices and blocks of images; units of
/// several images, in part too, and of parts of one; one batch and several.
pub(super) fn edges() -> Vec<Case> {
    use Activation::{HSwish, None as Linear, Relu};
    let shape = |batches, side, filter, channels, hidden, (activation, more)| Shape {
        batches,
        side,
        filter,
        channels,
        hidden,
        activation,
        more,
    };
    let shapes = [
        shape((1, 1), 1, (3, 1), (8, 8, 8), 0, (Relu, 0)),
        shape((2, 1), 2, (7, 2), (8, 24, 8), 8, (HSwish, 8)),
        shape((1, 3), 3, (5, 1), (24, 72, 40), 0, (Relu, 24)),
        shape((3, 5), 2, (3, 1), (40, 120, 48), 32, (HSwish, 8)),
        shape((2, 9), 4, (7, 1), (80, 240, 80), 64, (HSwish, 0)),
        shape((1, 2), 7, (5, 2), (16, 136, 24), 40, (Relu, 16)),
        shape((2, 2), 12, (3, 2), (24, 96, 40), 0, (Relu, 0)),
        shape((1, 2), 23, (3, 1), (16, 24, 16), 0, (HSwish, 0)),
        shape((1, 1), 9, (5, 1), (32, 48, 136), 0, (Linear, 0)),
        // Branches whose input is expanded already.
        shape((2, 1), 11, (3, 1), (0, 16, 16), 0, (Relu, 0)),
        shape((1, 3), 6, (5, 2), (0, 72, 24), 24, (HSwish, 8)),
        // Maps of which a slice is all that fits.
        shape((1, 1), 32, (7, 2), (16, 96, 24), 0, (Relu, 0)),
        // Maps that fit in bands alone.
        shape((1, 2), 56, (5, 1), (24, 72, 24), 0, (HSwish, 8)),
        // Late stages: one block for many images.
        shape((2, 37), 2, (7, 1), (160, 480, 160), 120, (HSwish, 160)),
        shape((1, 40), 1, (3, 1), (24, 72, 24), 0, (Relu, 0)),
    ];
    let cases = Format::ALL.into_iter().flat_map(|format| shapes.map(|shape| (format, shape)));
    let passes = cases.flat_map(|(format, shape)| Pass::ALL.map(|pass| (format, shape, pass)));
    passes.filter(|(_, shape, pass)| shape.channels.0 > 0 || *pass != Pass::Expanded).map(case).collect()
}

fn case((format, s, pass): (Format, Shape, Pass)) -> Case {
    let mut b = Builder::default();
    let call = call(&mut b, format, &s, pass);
    let ((batches, images), (kernel, stride), (cin, mid, cout)) = (s.batches, s.filter, s.channels);
    let Shape { side, hidden, activation, more, .. } = s;
    let name = format!(
        "{pass:?} {format:?} {batches} x {images} x {side}/{stride} k{kernel}, {cin} to {mid} to {cout} channels and {more} \
         more, {activation:?}, SE {hidden}"
    );
    b.finish(name, call)
}

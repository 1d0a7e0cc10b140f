//! Parallel branches of a layer: beside the MBConv a 1x1 convolution, and a transform of the input.
//!
//! In f32 the branches that read the layer's input are one call, which reads it once. In 16 bits each is a call of its
//! own that adds the sum so far. (OFAv2's parallel blocks.)

use super::build::Map;
use super::lowering::{Lowering, Mode};
use super::norms::Norm;
use crate::ops::branches::{self, Branch};
use crate::ops::{Activation, Slot};
use crate::space::visit::{Convolution, Kind};
use crate::space::walk::{Branches, Layer};

/// A branch of a call: its convolution, its place and its batch norm.
struct Running {
    what: Convolution,
    y: Map,
    norm: Norm,
    w: Option<Slot>,
    bias: Option<Slot>,
}

/// The branches that read a layer's input, from one pass over it: the map that the expansion makes, where the MBConv
/// runs, and the sum of the others with the MBConv's shortcut. The map of the sum is there even where nothing goes
/// into it but one branch.
pub(super) fn branches(
    to: &mut Lowering<'_>,
    layer: &Layer,
    norm: &dyn Fn(&Convolution) -> Norm,
    x: Map,
) -> (Option<Map>, Map) {
    let Layer { mid, cout, stride, side_out, .. } = *layer;
    let Branches { mbconv, pointwise, transform } = layer.branches;
    let shortcut = mbconv && layer.shortcut;
    let inference = to.mode == Mode::Inference;
    let running = |to: &Lowering<'_>, what: Convolution, y: Map| running(to, what, norm(&what), y);
    let expand = mbconv.then(|| {
        let y = to.build.map(x.side, mid);
        running(to, layer.expand(), y)
    });
    let sum = inference.then(|| to.build.map(side_out, cout));
    // In recalibration a branch has a place of its own, for its statistics.
    let mut place = || sum.unwrap_or_else(|| to.build.map(side_out, cout));
    let places = [pointwise, transform].map(|runs| runs.then(&mut place));
    let pointwise = places[0].map(|y| running(to, layer.pointwise(), y));
    let transform = places[1].map(|y| running(to, layer.transform(), y));
    let branch = |running: &Running| Branch {
        w: running.w,
        scale: inference.then_some(running.norm.scale),
        // Folding has put the bias into the shift; a raw output has it here.
        shift: if inference { Some(running.norm.shift) } else { running.bias },
        y: (Some(running.y) != sum).then_some(running.y.slot),
    };
    // Raw, and with nothing to pool or to convolve, the branch's output is the input.
    let as_it_is = |running: &Running| !inference && running.what.kind == Kind::Identity && stride == 1;
    let activation = if inference { layer.activation } else { Activation::None };
    let call = branches::Branches {
        params: branches::Params {
            images: to.build.images as u32,
            side_in: x.side as u32,
            side_out: side_out as u32,
            cin: x.channels as u32,
            mid: mid as u32,
            cout: cout as u32,
            stride: stride as u32,
            activation: activation as u32,
            shortcut: u32::from(shortcut && inference),
        },
        x: x.slot,
        expand: expand.as_ref().map(branch),
        pointwise: pointwise.as_ref().map(branch),
        transform: transform.as_ref().filter(|running| !as_it_is(running)).map(branch),
        sum: sum.map(|map| map.slot),
    };
    to.build.push(call);
    let sum = sum.unwrap_or_else(|| {
        if let Some(running) = &expand {
            normalise(to, running, running.y, None);
        }
        let mut sum = shortcut.then_some(x);
        for running in pointwise.iter().chain(&transform) {
            let raw = if as_it_is(running) { x } else { running.y };
            normalise(to, running, raw, sum);
            let before = sum.replace(running.y).filter(|before| *before != x);
            before.into_iter().for_each(|before| to.build.free(before));
        }
        sum.expect("a branch beside the MBConv")
    });
    (expand.map(|running| running.y), sum)
}

/// A branch to `y`.
fn running(to: &Lowering<'_>, what: Convolution, norm: Norm, y: Map) -> Running {
    let layout = to.build.layout;
    let w = (what.kind != Kind::Identity).then(|| layout.panels(&what).prefix(what.cout));
    Running { what, y, norm, w, bias: layout.convolution(&what).bias }
}

/// The batch norms of a raw output, with `added` added.
fn normalise(to: &mut Lowering<'_>, Running { what, y, norm, .. }: &Running, raw: Map, added: Option<Map>) {
    let vectors = to.batch_fold(raw, norm);
    let residual = added.map(|map| map.slot);
    let call = to.build.apply((raw.slot, *y), to.mode.at_once(), vectors, what.activation, residual);
    to.build.push(call);
}

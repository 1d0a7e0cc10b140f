//! Parallel branches of a layer: beside the MBConv a 1x1 convolution, and a transform of the input.
//!
//! In f32 the branches that read the layer's input are one call, which reads it once. In 16 bits each is a call of its
//! own that adds the sum so far. (OFAv2's parallel blocks.)

use super::emit::Norm;
use super::plan::{Lowering, Map, Mode};
use crate::ops::branches::{self, Branch, Branches};
use crate::ops::{Activation, Call, Slot};
use crate::space::backbone::strided;
use crate::space::walk::Layer;
use crate::supernet::{BatchNorm, Block, Panels, Transform};

impl Lowering<'_> {
    /// The transform branch as calls of its own, with `residual` added.
    pub(super) fn transform(
        &mut self,
        layer: &Layer,
        transform: &Transform,
        x: Map,
        residual: Option<Map>,
    ) -> Map {
        let pooled = (layer.stride > 1).then(|| self.max_pool(x));
        let from = pooled.unwrap_or(x);
        let y = match &transform.conv {
            Some((panels, bias)) => {
                let bias = Slot::weights(*bias, layer.cout);
                self.biased_pointwise(from, panels, bias, &transform.bn, layer.activation, residual)
            }
            None => self.normalise_copy(from, &transform.bn, layer.activation, residual),
        };
        pooled.into_iter().for_each(|map| self.free(map));
        y
    }

    /// What [`Lowering::branches`] gives from a call a branch, each of which adds the sum so far.
    pub(super) fn separate_branches(
        &mut self,
        layer: &Layer,
        block: &Block,
        parallel: &((Panels, BatchNorm), Transform),
        x: Map,
    ) -> (Option<Map>, Map) {
        let &Layer { mid, activation, .. } = layer;
        let wide = layer
            .branches
            .mbconv
            .then(|| self.pointwise(x, &block.expand, mid, 1, &block.expand_bn, activation, None, None));
        (wide, self.branches_beside(layer, parallel, x))
    }

    /// The sum of the branches beside the MBConv, and of its shortcut.
    pub(super) fn branches_beside(
        &mut self,
        layer: &Layer,
        ((panels, bn), transform): &((Panels, BatchNorm), Transform),
        x: Map,
    ) -> Map {
        let &Layer { cout, stride, activation, .. } = layer;
        let mut sum = (layer.branches.mbconv && layer.shortcut).then_some(x);
        if layer.branches.pointwise {
            sum = Some(self.pointwise(x, panels, cout, stride, bn, activation, None, sum));
        }
        if layer.branches.transform {
            let y = self.transform(layer, transform, x, sum);
            sum.replace(y).filter(|before| *before != x).into_iter().for_each(|before| self.free(before));
        }
        sum.expect("a branch beside the MBConv")
    }

    /// The branches that read the layer's input, from one pass over it: the map that the expansion
    /// makes, where the MBConv runs, and the sum of the others with the MBConv's shortcut. The map of
    /// the sum is there even where nothing goes into it but one branch.
    pub(super) fn branches(
        &mut self,
        layer: &Layer,
        block: &Block,
        ((panels, bn), transform): &((Panels, BatchNorm), Transform),
        x: Map,
    ) -> (Option<Map>, Map) {
        let Layer { mid, cout, stride, .. } = *layer;
        let side_out = strided(x.side, stride);
        let shortcut = layer.branches.mbconv && layer.shortcut;
        let expand = layer.branches.mbconv.then(|| {
            (
                self.map(x.side, mid),
                self.norm(&block.expand_bn, mid, None),
                Some(block.expand.prefix(mid)),
                None,
            )
        });
        let inference = self.mode == Mode::Inference;
        let sum = inference.then(|| self.map(side_out, cout));
        // In recalibration a branch has a place of its own, for its statistics.
        let mut place = || sum.unwrap_or_else(|| self.map(side_out, cout));
        let places = [layer.branches.pointwise, layer.branches.transform].map(|runs| runs.then(&mut place));
        let pointwise = places[0].map(|y| (y, self.norm(bn, cout, None), Some(panels.prefix(cout)), None));
        let transform = places[1].map(|y| {
            let bias = transform.conv.map(|(_, bias)| Slot::weights(bias, cout));
            let w = transform.conv.map(|(panels, _)| panels.prefix(cout));
            (y, self.norm(&transform.bn, cout, bias), w, bias)
        });
        let branch = |(y, norm, w, bias): &(Map, Norm, Option<Slot>, Option<Slot>)| Branch {
            w: *w,
            scale: inference.then_some(norm.scale),
            // Folding has put the bias into the shift; a raw output has it here.
            shift: if inference { Some(norm.shift) } else { *bias },
            y: (Some(*y) != sum).then_some(y.slot),
        };
        // Raw, and with nothing to pool or to convolve, the branch's output is the input.
        let as_it_is =
            |(_, _, w, _): &(Map, Norm, Option<Slot>, Option<Slot>)| !inference && w.is_none() && stride == 1;
        let activation = if inference { layer.activation } else { Activation::None };
        self.calls.push(Call::from(Branches {
            params: branches::Params {
                images: self.images as u32,
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
            transform: transform.as_ref().filter(|parts| !as_it_is(parts)).map(branch),
            sum: sum.map(|map| map.slot),
        }));
        let wide = expand.as_ref().map(|(wide, ..)| *wide);
        let Mode::Recalibration { batches, .. } = self.mode else {
            return (wide, sum.expect("inference has the sum's place"));
        };
        if let Some((y, norm, ..)) = &expand {
            let (scale, shift) = self.batch_fold(*y, norm, batches);
            self.apply(y.slot, *y, scale, shift, layer.activation, None);
        }
        let mut sum = if shortcut { Some(x) } else { None };
        for parts in pointwise.iter().chain(&transform) {
            let (y, norm, ..) = parts;
            let raw = if as_it_is(parts) { x } else { *y };
            let (scale, shift) = self.batch_fold(raw, norm, batches);
            self.apply(raw.slot, *y, scale, shift, layer.activation, sum.map(|map| map.slot));
            sum.replace(*y).filter(|before| *before != x).into_iter().for_each(|before| self.free(before));
        }
        (wide, sum.expect("a branch beside the MBConv"))
    }
}

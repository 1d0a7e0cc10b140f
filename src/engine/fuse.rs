//! Whole MBConvs as one call, or as the passes of recalibration (`passes.rs`), where a block of the device
//! holds an image of them; in inference the first one together with the stem. Where no block does, there is a
//! pair of calls instead of the last one, with the gates between them: expansion with the filter, and the projection.
//!
//! In 16 bits, and where the device has blocks with shared memory. Those of all nodes of a tree at one depth
//! are one call, pairs apart. Each node's batch norms are registered in the order of the separate calls, so that all find
//! them at the same places.

use super::emit::{Norm, Product};
use super::passes::PassStatistics;
use super::plan::{Lowering, Map, Mode};
use super::tree::{Step, Tree};
use crate::launch::Multiprocessors;
use crate::ops::expand_depthwise::{self, ExpandDepthwise};
use crate::ops::halves::Format;
use crate::ops::mbconv::{self, Block as MbconvBlock, Mbconv, MbconvGroup};
use crate::ops::mbconv_pass;
use crate::ops::{Activation, Call, Slot, halves};
use crate::space::Arch;
use crate::space::backbone::strided;
use crate::space::walk::{Layer, walk};
use crate::supernet::{BatchNorm, Block, Layout, Panels, Squeeze};
use serde::Serialize;
use std::collections::BTreeMap;

/// Where the map that the filter is for comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// It is the input.
    Input,
    /// A 1x1 expansion of the input.
    Expansion(Panels, &'a BatchNorm),
    /// The stem's filters on images.
    Stem {
        filters: Slot,
        bn: &'a BatchNorm,
        activation: Activation,
        /// The map is added to the output.
        shortcut: bool,
    },
}

/// What an MBConv is made of.
#[derive(Clone, Copy)]
pub(super) struct MbconvParts<'a> {
    pub(super) source: Source<'a>,
    /// The depthwise filter `[kernel, kernel, stored]`.
    pub(super) filter: (Slot, usize),
    pub(super) filter_bn: &'a BatchNorm,
    /// Squeeze-and-excitation with its hidden units in use.
    pub(super) squeeze: Option<(Squeeze, usize)>,
    /// The 1x1 projection.
    pub(super) project: (Panels, &'a BatchNorm),
    /// Expanded and output channels.
    pub(super) mid: usize,
    pub(super) cout: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// After the expansion and after the filter.
    pub(super) activation: Activation,
}

impl<'a> MbconvParts<'a> {
    /// The MBConv of an elastic layer.
    pub(super) fn of(layer: &Layer, block: &'a Block) -> MbconvParts<'a> {
        MbconvParts {
            source: Source::Expansion(block.expand, &block.expand_bn),
            filter: (block.filter(layer.kernel), block.channels),
            filter_bn: &block.depthwise_bn,
            squeeze: block.squeeze.zip(layer.squeeze),
            project: (block.project, &block.project_bn),
            mid: layer.mid,
            cout: layer.cout,
            kernel: layer.kernel,
            stride: layer.stride,
            activation: layer.activation,
        }
    }

    /// The rows of the expansion.
    pub(super) fn expand(&self, layout: &Layout) -> Option<Slot> {
        match self.source {
            Source::Expansion(panels, _) => Some(layout.rows(&panels, self.mid)),
            _ => None,
        }
    }

    /// Weights and biases of squeeze-and-excitation: reduce, its bias, excite, its bias.
    pub(super) fn squeeze_excite(&self) -> [Option<Slot>; 4] {
        let Some((squeeze, hidden)) = self.squeeze else { return [None; 4] };
        [
            squeeze.reduce.prefix(hidden),
            Slot::weights(squeeze.reduce_bias, hidden),
            squeeze.expand.prefix(self.mid),
            Slot::weights(squeeze.expand_bias, self.mid),
        ]
        .map(Some)
    }
}

/// How an MBConv runs, if not an operator at a time.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fusing {
    /// As one call, or as the passes of recalibration.
    Whole(mbconv::Params),
    /// As a pair of calls; in recalibration behind all passes but the last.
    Pair(mbconv::Params),
}

/// An MBConv that is to run, with its batch norms.
pub(super) struct Fused<'a> {
    pub(super) params: mbconv::Params,
    pub(super) parts: MbconvParts<'a>,
    /// The batch norm of the layer that makes the expanded map; none where the input is that map.
    pub(super) source: Option<Norm>,
    pub(super) filter: Norm,
    pub(super) project: Norm,
    pub(super) x: Map,
    pub(super) residual: Option<Map>,
}

/// The shape of a call on an input of that side and so many channels.
fn shape(
    parts: &MbconvParts<'_>,
    (side_in, cin): (usize, usize),
    images: usize,
    format: Format,
) -> mbconv::Params {
    let squeeze = parts.squeeze;
    let (side, weight_cin) = match parts.source {
        Source::Input => (side_in, 0),
        Source::Expansion(panels, _) => (side_in, panels.cin),
        Source::Stem { .. } => (strided(side_in, 2), 0),
    };
    let (image_side, stem_activation, shortcut) = match parts.source {
        Source::Stem { activation, shortcut, .. } => (side_in, activation, shortcut),
        _ => (0, Activation::None, false),
    };
    mbconv::Params {
        images: images as u32,
        side_in: side as u32,
        side_out: strided(side, parts.stride) as u32,
        cin: cin as u32,
        mid: parts.mid as u32,
        cout: parts.cout as u32,
        kernel: parts.kernel as u32,
        stride: parts.stride as u32,
        activation: parts.activation as u32,
        hidden: squeeze.map_or(0, |(_, hidden)| hidden as u32),
        weight_cin: weight_cin as u32,
        weight_channels: parts.filter.1 as u32,
        weight_mid: parts.project.0.cin as u32,
        se_channels: squeeze.map_or(0, |(squeeze, _)| squeeze.reduce.cin as u32),
        se_hidden: squeeze.map_or(0, |(squeeze, _)| squeeze.expand.cin as u32),
        image_side: image_side as u32,
        stem_activation: stem_activation as u32,
        shortcut: u32::from(shortcut),
        format: halves::number(Some(format)),
    }
}

/// An MBConv of 16-bit inference, and how it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MbconvChoice {
    /// The layer's stage and its position there, from 1.
    pub layer: [usize; 2],
    /// Sides of its input and output map.
    pub sides: [usize; 2],
    /// Channels of its input, expanded and output map.
    pub channels: [usize; 3],
    /// Side of the filter, and its stride.
    pub filter: [usize; 2],
    /// Hidden units of squeeze-and-excitation.
    pub hidden: usize,
    /// Whether it is one kernel.
    pub fused: bool,
    /// The block of that kernel; the smallest that there is, where it does not fit.
    pub block: Option<MbconvBlock>,
    /// Where it does not, the block of the first of a pair of kernels, if there is such a pair.
    pub pair: Option<MbconvBlock>,
}

/// The MBConvs of a network for `images` images at a time on a device whose blocks can have `block_bytes`
/// of shared memory and run on these multiprocessors, in order.
pub fn choices(
    layout: &Layout,
    arch: &Arch,
    images: usize,
    (block_bytes, multiprocessors): (u32, Multiprocessors),
) -> Vec<MbconvChoice> {
    let choice = |layer: &Layer| {
        let block = &layout.blocks[layer.index];
        // Both formats have the same shapes.
        let params = shape(&MbconvParts::of(layer, block), (layer.side_in, layer.cin), images, Format::Bf16);
        let fused = mbconv::fits(&params, block_bytes);
        let half = expand_depthwise::Params { shape: params.front(), batch_images: None };
        let pair = || expand_depthwise::block(&half, block_bytes, multiprocessors);
        MbconvChoice {
            layer: [layer.stage + 1, layer.position + 1],
            sides: [layer.side_in, layer.side_out],
            channels: [layer.cin, layer.mid, layer.cout],
            filter: [layer.kernel, layer.stride],
            hidden: layer.squeeze.unwrap_or(0),
            fused,
            block: mbconv::block(&params, block_bytes, multiprocessors),
            pair: if fused { None } else { pair() },
        }
    };
    walk(layout.channels(), arch).filter(|layer| layer.branches.mbconv).map(|layer| choice(&layer)).collect()
}

impl Lowering<'_> {
    /// The MBConvs of these nodes of a tree on these maps as one call, but of those that have branches
    /// beside it; none where there are not two.
    ///
    /// Their outputs, by node.
    pub(super) fn together(
        &mut self,
        tree: &Tree,
        nodes: impl Iterator<Item = (usize, Map)>,
    ) -> BTreeMap<usize, Map> {
        let whole = |(id, x): (usize, Map)| match tree.nodes[id].step {
            Step::Layer(layer) => self.whole(&layer, x).map(|params| (id, x, layer, params)),
            _ => None,
        };
        let whole: Vec<(usize, Map, Layer, mbconv::Params)> = nodes.filter_map(whole).collect();
        if whole.len() < 2 {
            return BTreeMap::new();
        }
        let layout = self.layout;
        let fused = whole.iter().map(|(id, x, layer, params)| {
            let parts = MbconvParts::of(layer, &layout.blocks[layer.index]);
            self.next_norm = self.norms_at[*id];
            let source = self.source_norm(&parts);
            self.ready(*params, parts, source, *x, layer.shortcut.then_some(*x))
        });
        let fused: Vec<Fused<'_>> = fused.collect();
        let outputs = self.run(&fused);
        whole.iter().map(|(id, ..)| *id).zip(outputs).collect()
    }

    /// The shape of a layer that is one call.
    fn whole(&self, layer: &Layer, x: Map) -> Option<mbconv::Params> {
        let branches = layer.branches;
        let alone = branches.mbconv && !branches.pointwise && !branches.transform;
        let block = &self.layout.blocks[layer.index];
        match alone.then(|| self.fusing(&MbconvParts::of(layer, block), x)).flatten()? {
            Fusing::Whole(params) => Some(params),
            Fusing::Pair(_) => None,
        }
    }

    /// How it runs on `x`, if there are such calls in this plan.
    pub(super) fn fusing(&self, parts: &MbconvParts<'_>, x: Map) -> Option<Fusing> {
        let format = self.format.filter(|_| self.block_bytes > 0)?;
        let params = shape(parts, (x.side, x.channels), self.images, format);
        // Whether what comes before the last call is there, and that call.
        let (before, last) = match self.mode {
            Mode::Inference => (true, mbconv::fits(&params, self.block_bytes)),
            Mode::Recalibration { .. } => {
                let fits = |pass: &mbconv_pass::Params| mbconv_pass::fits(pass, self.block_bytes);
                let passes = self.passes_of(params);
                let (last, before) = passes.split_last()?;
                (!params.has_stem() && before.iter().all(fits), fits(last))
            }
        };
        let pair = || !params.has_stem() && expand_depthwise::fits(&self.half(&params), self.block_bytes);
        match (before, last) {
            (true, true) => Some(Fusing::Whole(params)),
            (true, false) if pair() => Some(Fusing::Pair(params)),
            _ => None,
        }
    }

    /// The first half of an MBConv.
    fn half(&self, params: &mbconv::Params) -> expand_depthwise::Params {
        let batch_images = match self.mode {
            Mode::Inference => None,
            Mode::Recalibration { .. } => Some(self.batch_images()),
        };
        expand_depthwise::Params { shape: params.front(), batch_images }
    }

    /// The batch norm of what makes the map: the first of an MBConv.
    pub(super) fn source_norm(&mut self, parts: &MbconvParts<'_>) -> Option<Norm> {
        match parts.source {
            Source::Input => None,
            Source::Expansion(_, bn) | Source::Stem { bn, .. } => Some(self.norm(bn, parts.mid, None)),
        }
    }

    /// An MBConv that is to run, with the source's batch norm registered before.
    fn ready<'a>(
        &mut self,
        params: mbconv::Params,
        parts: MbconvParts<'a>,
        source: Option<Norm>,
        x: Map,
        residual: Option<Map>,
    ) -> Fused<'a> {
        let filter = self.norm(parts.filter_bn, parts.mid, None);
        let project = self.norm(parts.project.1, parts.cout, None);
        Fused { params, parts, source, filter, project, x, residual }
    }

    /// One MBConv, with the source's batch norm registered before.
    pub(super) fn fused(
        &mut self,
        fusing: Fusing,
        parts: &MbconvParts<'_>,
        source: Option<Norm>,
        x: Map,
        residual: Option<Map>,
    ) -> Map {
        let (Fusing::Whole(params) | Fusing::Pair(params)) = fusing;
        let fused = self.ready(params, *parts, source, x, residual);
        match fusing {
            Fusing::Whole(_) => self.run(std::slice::from_ref(&fused)).remove(0),
            Fusing::Pair(_) => self.pair(&fused),
        }
    }

    /// An MBConv as a pair of calls. Its gates come from the means of rows, as of a map that is one pixel wide.
    fn pair(&mut self, fused: &Fused<'_>) -> Map {
        let Fused { params, parts, .. } = fused;
        let half = self.half(params);
        let measured = self.passes_before(std::slice::from_ref(fused)).pop();
        let of = |norm: &Norm| (norm.scale, norm.shift);
        let (source, filter) = match &measured {
            Some(PassStatistics { source, filter }) => {
                (source.map(|vectors| (vectors.scale, vectors.shift)), (filter.scale, filter.shift))
            }
            None => (fused.source.as_ref().map(of), of(&fused.filter)),
        };
        let (side, mid) = (params.side_out as usize, parts.mid);
        let deep = self.map(side, mid);
        let means = parts.squeeze.map(|_| self.features(side * mid));
        self.calls.push(Call::from(ExpandDepthwise {
            params: half,
            x: fused.x.slot,
            expand: parts.expand(self.layout),
            expand_scale: source.map(|(scale, _)| scale),
            expand_shift: source.map(|(_, shift)| shift),
            filter: parts.filter.0,
            filter_scale: filter.0,
            filter_shift: filter.1,
            y: deep.slot,
            means: means.map(|means| means.slot),
        }));
        measured.into_iter().for_each(|measured| self.give_back(measured));
        let gate = means.zip(parts.squeeze).map(|(means, (squeeze, hidden))| {
            let gate = self.gate_of((means.slot, None), (side, mid), &squeeze, hidden);
            self.free(means);
            gate
        });
        let y = self.output(fused);
        let w = &parts.project.0;
        let product = Product { x: deep, w, y, stride: 1, bias: None, gate, pooled: false };
        let (layout, residual) = (self.layout, fused.residual.map(|map| map.slot));
        self.normalised(y, &fused.project, Activation::None, residual, |folded, images| {
            product.call(layout, images, folded)
        });
        gate.into_iter().for_each(|gate| self.arena.give_back(gate));
        self.free(deep);
        y
    }

    /// The outputs of MBConvs that run together.
    fn run(&mut self, fused: &[Fused<'_>]) -> Vec<Map> {
        if let Mode::Recalibration { .. } = self.mode {
            return self.passes(fused);
        }
        let outputs: Vec<Map> = fused.iter().map(|one| self.output(one)).collect();
        let calls = fused.iter().zip(&outputs).map(|(one, y)| one.call(self.layout, y.slot));
        let calls = calls.collect();
        self.push_together(calls, |calls| MbconvGroup { calls });
        outputs
    }

    /// The place of an output.
    pub(super) fn output(&mut self, fused: &Fused<'_>) -> Map {
        self.map(fused.params.side_out as usize, fused.parts.cout)
    }
}

impl Fused<'_> {
    /// The one call of inference.
    fn call(&self, layout: &Layout, y: Slot) -> Mbconv {
        let parts = &self.parts;
        let [reduce, reduce_bias, excite, excite_bias] = parts.squeeze_excite();
        Mbconv {
            params: self.params,
            x: self.x.slot,
            stem: match parts.source {
                Source::Stem { filters, .. } => Some(filters),
                _ => None,
            },
            expand: parts.expand(layout),
            expand_scale: self.source.as_ref().map(|norm| norm.scale),
            expand_shift: self.source.as_ref().map(|norm| norm.shift),
            filter: parts.filter.0,
            filter_scale: self.filter.scale,
            filter_shift: self.filter.shift,
            reduce,
            reduce_bias,
            excite,
            excite_bias,
            project: layout.rows(&parts.project.0, parts.cout),
            project_scale: self.project.scale,
            project_shift: self.project.shift,
            residual: self.residual.map(|map| map.slot),
            y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::H100_MULTIPROCESSORS;
    use crate::engine::Precision;
    use crate::engine::plan::{Target, lower};
    use crate::ops::Call;
    use crate::space::walk::Exits;
    use crate::space::{Channels, ExitScaling, Family};
    use crate::supernet::init::parts_of;

    #[test]
    fn what_is_said_to_be_one_kernel_or_a_pair_is_that() {
        let family = Family::SE_B;
        let layout = Layout::new(Channels::new(1.0, ExitScaling::Once), 10, parts_of(family));
        // All layers of small images; of larger ones, on an A100, not the first with squeeze-excite.
        for (side, block_bytes, all) in [(64, 227 << 10, true), (160, 163 << 10, false)] {
            let arch = Arch { ks: [7; 20], e: [6; 20], d: [3; 5], ..Arch::largest(family, side, None) };
            let choices = choices(&layout, &arch, 100, (block_bytes, H100_MULTIPROCESSORS));
            assert_eq!(choices.len(), 15);
            assert!(choices.iter().all(|choice| choice.fused != choice.pair.is_some()));
            assert!(choices[0].fused, "{:?}", choices[0]);
            assert_eq!(choices[3].fused, all, "{:?}", choices[3]);
            let fits =
                |choice: &MbconvChoice| choice.block.is_some_and(|block| block.shared_bytes <= block_bytes);
            assert!(choices.iter().all(|choice| choice.fused == fits(choice)));
            let target = Target { precision: Precision::F16, block_bytes };
            let (program, _) = lower(&layout, &arch, Exits::single(&arch), 100, Mode::Inference, target);
            let filters: Vec<[u32; 3]> = program
                .calls
                .iter()
                .filter_map(|call| match call {
                    Call::Mbconv(call) if call.stem.is_none() && call.expand.is_some() => {
                        let p = &call.params;
                        Some([p.side_in, p.mid, p.cout])
                    }
                    _ => None,
                })
                .collect();
            let said = choices.iter().filter(|choice| choice.fused);
            let said: Vec<[u32; 3]> =
                said.map(|c| [c.sides[0] as u32, c.channels[1] as u32, c.channels[2] as u32]).collect();
            assert_eq!(filters, said);
            let pairs = program.calls.iter().filter(|call| matches!(call, Call::ExpandDepthwise(_))).count();
            assert_eq!(pairs, choices.len() - said.len());
            assert!(!program.calls.iter().any(|call| matches!(call, Call::Depthwise(_))));
        }
    }
}

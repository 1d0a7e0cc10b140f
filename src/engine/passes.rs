//! MBConvs of recalibration in 16 bits: three passes of each, which leave no expanded map, and between them
//! what makes scales and shifts of the batches' statistics.
//!
//! Passes, merges and applications of all that run together are one call each. The 1x1 convolutions of heads,
//! of which recalibration wants statistics alone, are first passes too.

use super::emit::Norm;
use super::fuse::Fused;
use super::plan::{BN_EPSILON, Lowering, Map, Mode};
use super::tree::{Step, Tree};
use crate::ops::batch_norm::{BatchFold, BnApplyGroup, BnMerge, Merge};
use crate::ops::mbconv_pass::{self, MbconvPass, MbconvPassGroup, Params, Pass};
use crate::ops::{Activation, Call, Slot, mbconv};
use crate::supernet::HeadLayout;

/// Scale and shift of a batch norm's batches, `[batches][channels]` each.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    both: Slot,
    pub(super) scale: Slot,
    pub(super) shift: Slot,
}

/// What the passes before the last have found, to be given back: of what makes the map, if it is not the
/// input, and of the filter.
#[derive(Clone, Copy)]
pub(super) struct PassStatistics {
    pub(super) source: Option<Vectors>,
    pub(super) filter: Vectors,
}

impl Lowering<'_> {
    /// The passes of an MBConv, in their order.
    pub(super) fn passes_of(&self, whole: mbconv::Params) -> Vec<Params> {
        let passes = if whole.expands() { &Pass::ALL[..] } else { &Pass::ALL[1..] };
        passes.iter().map(|&pass| Params::of(whole, pass, self.batch_images())).collect()
    }

    /// The passes before the last of MBConvs that run together; none in inference.
    pub(super) fn passes_before(&mut self, fused: &[Fused<'_>]) -> Vec<PassStatistics> {
        if self.mode == Mode::Inference {
            return Vec::new();
        }
        let calls = fused.iter().filter_map(|one| {
            let norm = one.source.as_ref()?;
            Some((self.call(one, Pass::Expanded, [None; 2]), norm))
        });
        let calls = calls.collect();
        let mut of_sources = self.pass(calls, true).into_iter();
        let expand: Vec<Option<Vectors>> =
            fused.iter().map(|one| one.source.as_ref().and_then(|_| of_sources.next())).collect();

        let calls = fused
            .iter()
            .zip(&expand)
            .map(|(one, &expand)| (self.call(one, Pass::Filtered, [expand, None]), &one.filter));
        let calls = calls.collect();
        let filter = self.pass(calls, true);
        expand.into_iter().zip(filter).map(|(source, filter)| PassStatistics { source, filter }).collect()
    }

    /// Gives back what passes have found.
    pub(super) fn give_back(&mut self, measured: PassStatistics) {
        let vectors = measured.source.into_iter().chain([measured.filter]);
        vectors.for_each(|vectors| self.arena.give_back(vectors.both));
    }

    /// The outputs of MBConvs that run together.
    pub(super) fn passes(&mut self, fused: &[Fused<'_>]) -> Vec<Map> {
        let measured = self.passes_before(fused);
        let outputs: Vec<Map> = fused.iter().map(|one| self.output(one)).collect();
        let calls = fused.iter().zip(&outputs).zip(&measured);
        let calls = calls.map(|((one, y), of)| {
            let call = self.call(one, Pass::Projected, [of.source, Some(of.filter)]);
            (MbconvPass { y: Some(y.slot), ..call }, &one.project)
        });
        let calls = calls.collect();
        let project = self.pass(calls, true);

        let calls = fused.iter().zip(&outputs).zip(&project).map(|((one, &y), vectors)| {
            let residual = one.residual.map(|map| map.slot);
            self.application(y.slot, y, vectors.scale, vectors.shift, Activation::None, residual)
        });
        let calls = calls.collect();
        self.push_together(calls, |calls| BnApplyGroup { calls });
        measured.into_iter().for_each(|measured| self.give_back(measured));
        project.into_iter().for_each(|vectors| self.arena.give_back(vectors.both));
        outputs
    }

    /// The statistics of the heads among these nodes of a tree, together, and which these are: that is all
    /// that recalibration wants of them. None where they are no passes.
    pub(super) fn heads_together(
        &mut self,
        tree: &Tree,
        nodes: impl Iterator<Item = (usize, Map)>,
    ) -> Vec<usize> {
        let (mut calls, mut norms, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        if self.mode == Mode::Inference {
            return ids;
        }
        for (id, x) in nodes {
            let Step::Head { stage, .. } = tree.nodes[id].step else { continue };
            let head = self.head_of(tree, stage);
            let Some(call) = self.head_pass(&head, x) else { continue };
            self.next_norm = self.norms_at[id];
            norms.push(self.norm(&head.expand_bn, head.head.expand, None));
            calls.push(call);
            ids.push(id);
        }
        self.pass(calls.into_iter().zip(&norms).collect(), false);
        ids
    }

    /// The pass that leaves the statistics of a head's convolution, if there is such a call in this plan.
    fn head_pass(&self, head: &HeadLayout, x: Map) -> Option<MbconvPass> {
        let format = self.format.filter(|_| self.block_bytes > 0)?;
        let (mid, panels) = (head.head.expand, &head.expand);
        let channels = [x.channels, panels.cin, mid].map(|channels| channels as u32);
        let images = (self.images as u32, self.batch_images());
        let params = Params::pointwise(images, x.side as u32, channels, format);
        mbconv_pass::fits(&params, self.block_bytes).then(|| MbconvPass {
            expand: Some(self.layout.rows(panels, mid)),
            ..MbconvPass::without_operands(params, x.slot)
        })
    }

    /// Passes, each with the batch norm that it leaves statistics for, together. Where they are folded, the
    /// scales and shifts of each, to be given back.
    fn pass(&mut self, mut calls: Vec<(MbconvPass, &Norm)>, fold: bool) -> Vec<Vectors> {
        let Mode::Recalibration { batches, .. } = self.mode else { return Vec::new() };
        if calls.is_empty() {
            return Vec::new();
        }
        let mut vectors = Vec::new();
        let mut merges = Vec::new();
        for (call, norm) in &mut calls {
            let params = call.params;
            call.partials = self.arena.take(params.partials_len());
            let fold = fold.then(|| {
                let len = params.batches() as usize * params.channels() as usize;
                let both = self.arena.take(2 * len);
                let (scale, shift) = (both.part(0, len), both.part(len, len));
                vectors.push(Vectors { both, scale, shift });
                BatchFold { gamma: norm.gamma, beta: norm.beta, scale, shift }
            });
            let (params, partials) = (params.merge(BN_EPSILON), call.partials);
            merges.push(Merge { params, partials, batch: norm.batch, fold });
            self.average(norm, batches);
        }
        merges.iter().for_each(|merge| self.arena.give_back(merge.partials));
        let calls = calls.into_iter().map(|(call, _)| call).collect();
        self.push_together(calls, |calls| MbconvPassGroup { calls });
        self.calls.push(Call::from(BnMerge { calls: merges }));
        vectors
    }

    /// A pass of an MBConv, with what the batch norms of the expansion and of the filter are as far as it needs
    /// them; its partial statistics have no place yet.
    fn call(&self, fused: &Fused<'_>, pass: Pass, [expand, filter]: [Option<Vectors>; 2]) -> MbconvPass {
        let parts = &fused.parts;
        let params = Params::of(fused.params, pass, self.batch_images());
        let (filters, projects) = (pass != Pass::Expanded, pass == Pass::Projected);
        let squeeze = if projects { parts.squeeze_excite() } else { [None; 4] };
        let [reduce, reduce_bias, excite, excite_bias] = squeeze;
        MbconvPass {
            expand: parts.expand(self.layout),
            expand_scale: expand.map(|vectors| vectors.scale),
            expand_shift: expand.map(|vectors| vectors.shift),
            filter: filters.then_some(parts.filter.0),
            filter_scale: filter.map(|vectors| vectors.scale),
            filter_shift: filter.map(|vectors| vectors.shift),
            reduce,
            reduce_bias,
            excite,
            excite_bias,
            project: projects.then(|| self.layout.rows(&parts.project.0, parts.cout)),
            ..MbconvPass::without_operands(params, fused.x.slot)
        }
    }
}

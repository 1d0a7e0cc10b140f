//! MBConvs of recalibration in 16 bits: three passes of each, which leave no expanded map, and between them
//! what makes scales and shifts of the batches' statistics.
//!
//! Passes, merges and applications of all that run together are one call each. The 1x1 convolutions of heads,
//! of which recalibration wants statistics alone, are first passes too.

use super::build::{BN_EPSILON, Map};
use super::lowering::{Lowering, Mode};
use super::mbconv::{Fused, head_pass};
use super::norms::Norm;
use crate::ops::batch_norm::{BatchFold, BnApplyGroup, BnMerge, Merge};
use crate::ops::mbconv_pass::{MbconvPass, MbconvPassGroup, Params, Pass};
use crate::ops::{Activation, Slot};
use crate::space::walk::Exit;

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

/// The passes before the last of MBConvs that run together; none in inference.
pub(super) fn passes_before(to: &mut Lowering<'_>, fused: &[Fused]) -> Vec<PassStatistics> {
    if to.mode == Mode::Inference {
        return Vec::new();
    }
    let calls = fused.iter().filter_map(|one| {
        let norm = one.source?;
        Some((pass_of(to, one, Pass::Expanded, [None; 2]), norm))
    });
    let calls = calls.collect();
    let mut of_sources = together(to, calls, true).into_iter();
    let expand: Vec<Option<Vectors>> =
        fused.iter().map(|one| one.source.and_then(|_| of_sources.next())).collect();

    let calls = fused
        .iter()
        .zip(&expand)
        .map(|(one, &expand)| (pass_of(to, one, Pass::Filtered, [expand, None]), one.filter));
    let calls = calls.collect();
    let filter = together(to, calls, true);
    expand.into_iter().zip(filter).map(|(source, filter)| PassStatistics { source, filter }).collect()
}

/// Gives back what passes have found.
pub(super) fn give_back(to: &mut Lowering<'_>, measured: PassStatistics) {
    let vectors = measured.source.into_iter().chain([measured.filter]);
    vectors.for_each(|vectors| to.build.give_back(vectors.both));
}

/// The outputs of MBConvs that run together.
pub(super) fn run(to: &mut Lowering<'_>, fused: &[Fused]) -> Vec<Map> {
    let measured = passes_before(to, fused);
    let outputs: Vec<Map> = fused.iter().map(|one| to.build.output(&one.parts.project)).collect();
    let calls = fused.iter().zip(&outputs).zip(&measured);
    let calls = calls.map(|((one, y), of)| {
        let call = pass_of(to, one, Pass::Projected, [of.source, Some(of.filter)]);
        (MbconvPass { y: Some(y.slot), ..call }, one.project)
    });
    let calls = calls.collect();
    let project = together(to, calls, true);

    let calls = fused.iter().zip(&outputs).zip(&project).map(|((one, &y), vectors)| {
        let (vectors, residual) = ((vectors.scale, vectors.shift), one.residual.map(|map| map.slot));
        to.build.apply((y.slot, y), to.mode.at_once(), vectors, Activation::None, residual)
    });
    let calls = calls.collect();
    to.build.push_together(calls, |calls| BnApplyGroup { calls });
    measured.into_iter().for_each(|measured| give_back(to, measured));
    project.into_iter().for_each(|vectors| to.build.give_back(vectors.both));
    outputs
}

/// The statistics of heads, each on its map and with its batch norm: that is all that recalibration wants of them.
pub(super) fn statistics_of_heads(to: &mut Lowering<'_>, heads: &[(Exit, Map, Norm)]) {
    let images = (to.build.images as u32, to.batch_images());
    let calls = heads.iter().map(|(exit, x, norm)| {
        let (what, layout) = (exit.expand(), to.build.layout);
        let params = head_pass(layout, exit, images, to.block_format());
        let expand = Some(layout.rows_of(&what));
        (MbconvPass { expand, ..MbconvPass::without_operands(params, x.slot) }, *norm)
    });
    let calls = calls.collect();
    together(to, calls, false);
}

/// Passes, each with the batch norm that it leaves statistics for, together. Where they are folded, the
/// scales and shifts of each, to be given back.
fn together(to: &mut Lowering<'_>, mut calls: Vec<(MbconvPass, Norm)>, fold: bool) -> Vec<Vectors> {
    if calls.is_empty() {
        return Vec::new();
    }
    let mut vectors = Vec::new();
    let mut merges = Vec::new();
    let build = &mut to.build;
    for (call, norm) in &mut calls {
        let params = call.params;
        call.partials = build.take(params.partials_len());
        let fold = fold.then(|| {
            let len = params.batches() as usize * params.channels() as usize;
            let both = build.take(2 * len);
            let (scale, shift) = (both.part(0, len), both.part(len, len));
            vectors.push(Vectors { both, scale, shift });
            BatchFold { gamma: norm.gamma, beta: norm.beta, scale, shift }
        });
        let (params, partials) = (params.merge(BN_EPSILON), call.partials);
        merges.push(Merge { params, partials, batch: norm.batch, fold });
    }
    merges.iter().for_each(|merge| build.give_back(merge.partials));
    let calls = calls.into_iter().map(|(call, _)| call).collect();
    to.build.push_together(calls, |calls| MbconvPassGroup { calls });
    to.build.push(BnMerge { calls: merges });
    vectors
}

/// A pass of an MBConv, with what the batch norms of the expansion and of the filter are as far as it needs
/// them; its partial statistics have no place yet.
fn pass_of(
    to: &Lowering<'_>,
    fused: &Fused,
    pass: Pass,
    [expand, filter]: [Option<Vectors>; 2],
) -> MbconvPass {
    let (parts, layout) = (&fused.parts, to.build.layout);
    let params = Params::of(fused.params, pass, to.batch_images());
    let (filters, projects) = (pass != Pass::Expanded, pass == Pass::Projected);
    let squeeze = if projects { parts.squeeze_excite(layout) } else { [None; 4] };
    let [reduce, reduce_bias, excite, excite_bias] = squeeze;
    MbconvPass {
        expand: parts.expand(layout),
        expand_scale: expand.map(|vectors| vectors.scale),
        expand_shift: expand.map(|vectors| vectors.shift),
        filter: filters.then(|| parts.filter(layout)),
        filter_scale: filter.map(|vectors| vectors.scale),
        filter_shift: filter.map(|vectors| vectors.shift),
        reduce,
        reduce_bias,
        excite,
        excite_bias,
        project: projects.then(|| parts.project(layout)),
        ..MbconvPass::without_operands(params, fused.x.slot)
    }
}

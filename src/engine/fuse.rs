//! Whole MBConvs as one call, or as the passes of recalibration (`passes.rs`), or as a pair of calls.
//!
//! In 16 bits, and where the device has blocks with shared memory: `choose.rs` says which. A block holds an image of an
//! MBConv; in inference the first MBConv begins with the stem. Where no block holds the whole, there is a pair of calls
//! instead of the last one, with the gates between them: expansion with the filter, and the projection.

use super::build::{Epilogue, Map};
use super::lowering::{Lowering, Mode};
use super::mbconv::Fused;
use super::norms::Norm;
use super::passes::{self, PassStatistics, give_back, passes_before};
use crate::ops::Slot;
use crate::ops::expand_depthwise::{self, ExpandDepthwise};
use crate::ops::mbconv::{self, Mbconv, MbconvGroup};
use crate::space::visit::Kind;
use crate::supernet::Layout;

/// The first half of an MBConv.
fn half(to: &Lowering<'_>, params: &mbconv::Params) -> expand_depthwise::Params {
    let batch_images = match to.mode {
        Mode::Inference => None,
        Mode::Recalibration { .. } => Some(to.batch_images()),
    };
    expand_depthwise::Params { shape: params.front(), batch_images }
}

/// An MBConv as a pair of calls. Its gates come from the means of rows, as of a map that is one pixel wide.
pub(super) fn pair(to: &mut Lowering<'_>, fused: &Fused) -> Map {
    let Fused { params, parts, .. } = fused;
    let (half, layout) = (half(to, params), to.build.layout);
    let measured = passes_before(to, std::slice::from_ref(fused)).pop();
    let of = |norm: &Norm| (norm.scale, norm.shift);
    let (source, filter) = match &measured {
        Some(PassStatistics { source, filter }) => {
            (source.map(|vectors| (vectors.scale, vectors.shift)), (filter.scale, filter.shift))
        }
        None => (fused.source.as_ref().map(of), of(&fused.filter)),
    };
    let (side, mid) = (parts.filter.side_out, parts.filter.cout);
    let deep = to.build.map(side, mid);
    let means = parts.squeeze.map(|_| to.build.features(side * mid));
    to.build.push(ExpandDepthwise {
        params: half,
        x: fused.x.slot,
        expand: parts.expand(layout),
        expand_scale: source.map(|(scale, _)| scale),
        expand_shift: source.map(|(_, shift)| shift),
        filter: parts.filter(layout),
        filter_scale: filter.0,
        filter_shift: filter.1,
        y: deep.slot,
        means: means.map(|means| means.slot),
    });
    measured.into_iter().for_each(|measured| give_back(to, measured));
    let gate = means.zip(parts.squeeze).map(|(means, squeeze)| {
        let gate = to.build.squeeze((means.slot, None), side, &squeeze).gate;
        to.build.free(means);
        gate
    });
    let y = to.build.output(&parts.project);
    let residual = fused.residual.map(|map| map.slot);
    let then = Epilogue { gate, residual, activated: true, ..Epilogue::default() };
    to.normalised(&parts.project, &fused.project, deep, y, then);
    gate.into_iter().for_each(|gate| to.build.give_back(gate));
    to.build.free(deep);
    y
}

/// The outputs of MBConvs that run together.
pub(super) fn whole(to: &mut Lowering<'_>, fused: &[Fused]) -> Vec<Map> {
    if let Mode::Recalibration { .. } = to.mode {
        return passes::run(to, fused);
    }
    let outputs: Vec<Map> = fused.iter().map(|one| to.build.output(&one.parts.project)).collect();
    let layout = to.build.layout;
    let calls = fused.iter().zip(&outputs).map(|(one, y)| one.call(layout, y.slot)).collect();
    to.build.push_together(calls, |calls| MbconvGroup { calls });
    outputs
}
impl Fused {
    /// The one call of inference.
    fn call(&self, layout: &Layout, y: Slot) -> Mbconv {
        let parts = &self.parts;
        let [reduce, reduce_bias, excite, excite_bias] = parts.squeeze_excite(layout);
        Mbconv {
            params: self.params,
            x: self.x.slot,
            stem: parts.source(Kind::Dense).map(|stem| layout.filter(&stem)),
            expand: parts.expand(layout),
            expand_scale: self.source.map(|norm| norm.scale),
            expand_shift: self.source.map(|norm| norm.shift),
            filter: parts.filter(layout),
            filter_scale: self.filter.scale,
            filter_shift: self.filter.shift,
            reduce,
            reduce_bias,
            excite,
            excite_bias,
            project: parts.project(layout),
            project_scale: self.project.scale,
            project_shift: self.project.shift,
            residual: self.residual.map(|map| map.slot),
            y,
        }
    }
}

//! Calls on 16-bit maps as calls on f32 maps.
//!
//! An operator whose parameters name a format computes what it computes in f32, from numbers that
//! are widened exactly, and its output map is rounded once. A device without code of its own for a
//! format runs it just so.

use super::halves::{Format, stored};
use super::{Call, Slot};

/// A call on 16-bit maps, taken apart.
pub(crate) struct Widened {
    /// What the maps are stored as.
    pub(crate) format: Format,
    /// The same call on maps in f32, under the same slots.
    pub(crate) call: Call,
    /// The slots of the maps, each once; the others hold f32 as they are.
    pub(crate) maps: Vec<Slot>,
}

/// Takes a call apart whose operator has a format; `None` where its maps are f32, or the operator is
/// one of 16-bit numbers only.
pub(crate) fn widened(call: &Call) -> Option<Widened> {
    macro_rules! plain {
        ($call:ident, $maps:expr) => {{
            let format = stored($call.params.format)?;
            let mut plain = $call.clone();
            plain.params.format = 0;
            (format, Call::from(plain), $maps)
        }};
    }
    let (format, call, maps) = match call {
        Call::Stem(c) => plain!(c, vec![c.y]),
        Call::Depthwise(c) => plain!(c, vec![c.x, c.y]),
        Call::SqueezeExcite(c) => plain!(c, vec![c.x]),
        Call::GlobalPool(c) => plain!(c, vec![c.x]),
        Call::MaxPool(c) => plain!(c, vec![c.x, c.y]),
        Call::Sum(c) => plain!(c, c.x.iter().copied().chain([c.y]).collect()),
        Call::Scatter(c) => plain!(c, [c.x, c.y].into_iter().chain(c.residual).collect()),
        Call::BnStatistics(c) => plain!(c, vec![c.x]),
        Call::BnApply(c) => plain!(c, [c.x, c.y].into_iter().chain(c.residual).collect()),
        Call::DepthwiseInput(c) => plain!(c, [c.dz, c.dx].into_iter().chain(c.residual).collect()),
        Call::DepthwiseWeights(c) => plain!(c, vec![c.x, c.dz]),
        Call::StemWeights(c) => plain!(c, vec![c.dz]),
        Call::BnGradSums(c) => plain!(c, vec![c.z, c.dy]),
        Call::BnGradInput(c) => plain!(c, [c.z, c.dy, c.dz].into_iter().chain(c.residual).collect()),
        Call::SqueezeExciteGrad(c) => plain!(c, vec![c.x, c.dxg, c.dx]),
        Call::GlobalPoolGrad(c) => plain!(c, vec![c.dx]),
        Call::MaxPoolGrad(c) => plain!(c, [c.x, c.dy, c.dx].into_iter().chain(c.residual).collect()),
        Call::Activate(c) => plain!(c, vec![c.x, c.y]),
        Call::ActivateGrad(c) => plain!(c, vec![c.x, c.dy, c.dx]),
        Call::ColumnSum(c) => plain!(c, vec![c.x]),
        _ => return None,
    };
    let mut distinct: Vec<Slot> = Vec::with_capacity(maps.len());
    for map in maps {
        if !distinct.contains(&map) {
            distinct.push(map);
        }
    }
    Some(Widened { format, call, maps: distinct })
}

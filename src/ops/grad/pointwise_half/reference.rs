//! The definition: that of f32 maps, on the numbers that the maps are.

use super::super::pointwise::{self, reference};
use super::{Params, WeightsArgs};
use crate::ops::Real;
use crate::ops::halves::PER_ELEMENT;

/// Gradient of the weights. The scratch slot is not needed here and left alone.
pub fn weights<T: Real>(p: &Params, a: WeightsArgs<'_, T>) {
    let dz = p.format().widen(&a.dz[..p.shape.rows() * p.shape.cout as usize / PER_ELEMENT]);
    let x = &p.gated(a.x, a.gate);
    let args = pointwise::WeightsArgs { x, dz: &dz, gate: None, partials: a.partials, dw: a.dw };
    reference::weights(&p.shape, args);
}

//! The host path: that of f32 maps, on the numbers that the maps are.

use super::super::pointwise::{self, cpu};
use super::{Params, WeightsArgs};
use crate::ops::Threads;
use crate::ops::halves::PER_ELEMENT;

/// Gradient of the weights.
pub fn weights(p: &Params, a: WeightsArgs<'_, f32>, threads: Threads) {
    let dz = p.format().unpack(&a.dz[..p.shape.rows() * p.shape.cout as usize / PER_ELEMENT]);
    let x = &p.gated(a.x, a.gate);
    let args = pointwise::WeightsArgs { x, dz: &dz, gate: None, partials: a.partials, dw: a.dw };
    cpu::weights(&p.shape, args, threads);
}

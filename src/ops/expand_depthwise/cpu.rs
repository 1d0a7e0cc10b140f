//! The host path: the chain of the operators' host paths, and in recalibration the definition in f32. A plan for a CPU
//! has no such call: it is there so that a plan in 16-bit numbers runs on every device.

use super::super::{Threads, mbconv};
use super::{Args, Params, reference, row_means};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    a.check(p);
    let filtered = match p.batch_images {
        None => mbconv::cpu::front(&p.shape, a.front(), threads).filtered,
        Some(batch_images) => reference::of_batches(p, batch_images, &a),
    };
    a.y.copy_from_slice(&filtered);
    if let Some(means) = a.means {
        row_means(&p.shape, &p.shape.format().unpack(a.y), means);
    }
}

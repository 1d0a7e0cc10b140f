//! The host path: the chain of the operators' host paths. A plan for a CPU has no such call: it is there so that a
//! plan in 16-bit numbers runs on every device.

use super::super::{Threads, mbconv};
use super::{Args, Params, row_means};

/// Computes the call; see the module for the formula.
pub fn run(p: &Params, a: Args<'_, f32>, threads: Threads) {
    a.check(p);
    let inside = mbconv::cpu::front(p, a.front(), threads);
    a.y.copy_from_slice(&inside.filtered);
    if let Some(means) = a.means {
        row_means(p, &p.format().unpack(a.y), means);
    }
}

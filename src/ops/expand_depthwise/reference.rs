//! The definition: the first half of the MBConv's, and the means of its rows.

use super::super::real::Real;
use super::super::{mbconv, mbconv_pass};
use super::{Args, Params, row_means};

/// Computes the call; see the module for the formula.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    a.check(p);
    let filtered = match p.batch_images {
        None => mbconv::reference::front(&p.shape, a.front()).filtered,
        Some(batch_images) => of_batches(p, batch_images, &a),
    };
    a.y.copy_from_slice(&filtered);
    if let Some(means) = a.means {
        row_means(&p.shape, &p.shape.format().widen(a.y), means);
    }
}

/// The depthwise output of recalibration: what the last pass makes on its way.
pub(super) fn of_batches<T: Real>(p: &Params, batch_images: u32, a: &Args<'_, T>) -> Vec<T> {
    let pass = mbconv_pass::Params::of(p.shape, mbconv_pass::Pass::Projected, batch_images);
    let args = mbconv_pass::Args {
        x: a.x,
        expand: a.expand,
        expand_scale: a.expand_scale,
        expand_shift: a.expand_shift,
        filter: Some(a.filter),
        filter_scale: Some(a.filter_scale),
        filter_shift: Some(a.filter_shift),
        reduce: None,
        reduce_bias: None,
        excite: None,
        excite_bias: None,
        project: None,
        y: None,
        partials: &mut [],
    };
    mbconv_pass::reference::kept(&pass, &args)
}

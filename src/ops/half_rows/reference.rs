//! The definition, written out.

use super::{Args, Params};
use crate::launch::panels::panelled_index;
use crate::ops::Real;

/// Rows of all matrices.
pub fn run<T: Real>(p: &Params, a: Args<'_, T>) {
    for (shape, job) in a.jobs {
        let (cout, cin, w) = (shape.cout as usize, shape.cin as usize, job.w);
        let rows: Vec<T> = (0..cout * cin).map(|i| w[panelled_index(cin, i / cin, i % cin)]).collect();
        p.format.narrow(&rows, job.rows);
        if let Some(transposed) = job.transposed {
            let rows: Vec<T> = (0..cin * cout).map(|i| w[panelled_index(cin, i % cout, i / cout)]).collect();
            p.format.narrow(&rows, transposed);
        }
    }
}

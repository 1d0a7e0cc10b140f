//! Splitting a call over threads.
//!
//! Work is cut into pieces of a fixed size that does not depend on the number of threads, and every
//! output element is computed by one piece alone, so results do not depend on threads either.

use super::Threads;
use rayon::prelude::*;

/// Calls `body(index, piece)` for consecutive pieces of `size` elements of `out`.
pub fn pieces(threads: Threads, out: &mut [f32], size: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    match threads {
        Threads::One => out.chunks_mut(size).enumerate().for_each(|(index, piece)| body(index, piece)),
        Threads::All => out.par_chunks_mut(size).enumerate().for_each(|(index, piece)| body(index, piece)),
    }
}
